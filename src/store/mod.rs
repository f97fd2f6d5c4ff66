//! PORT. Where sealed versions, stages, origins, rotations, receipts and the audit are kept; its adapters.
//! Must never see an open value: it takes `Sealed`.
