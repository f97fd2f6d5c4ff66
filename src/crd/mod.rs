//! The custom resources as users write them, their conditions and reasons, and their translation to the domain.
//! Must not hold a client.
