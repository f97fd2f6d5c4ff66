//! PURE. What a secret is: names, ARNs, version ids, stages and their moves, values, the rules of generators.
//! Must not do I/O, read the time or make randomness: it takes them as arguments.
