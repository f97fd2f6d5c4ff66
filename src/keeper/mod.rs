//! The use-cases, one file per verb: the one place where domain, seal, store and key provider meet.
//! Must not know HTTP, gRPC or Kubernetes objects.
