//! PORT to Kubernetes: token and access reviews, leases, informers, events, for several shells.
//! Must not decide: it asks and reports.
