//! PURE. When a rotation is due and what its next step is: `decide(observed, now) -> Plan`.
//! Must not do I/O or read the time.
