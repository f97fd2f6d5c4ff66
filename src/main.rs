//! The one multi-call binary: picks the role and wires it. Must hold no logic of its own.

fn main() {}
