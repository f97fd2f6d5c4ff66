//! Named points at which a test ends this process, and named guards that a test takes out to show that each is needed.
//! Only a build with the feature `test-guards`, or of the unit tests, knows any: elsewhere `reach` is nothing and `guard` is `true`, and the
//! names are not in the program. Must not hold logic: what a guard protects stands where it is asked.

/// A moment at which a crash must lose nothing. Dies here, as by SIGKILL, when the environment says
/// `TIDELOCK_TEST_FAILPOINT=<name>`, or `<name>:<n>` at the n-th time.
#[inline(always)]
pub fn reach(_name: &'static str) {
    #[cfg(any(test, feature = "test-guards"))]
    armed::reach(_name);
}

/// Whether the guard of this name is in force: always, but for a test that says `TIDELOCK_TEST_GUARD_OFF=<name>`.
#[inline(always)]
pub fn guard(_name: &'static str) -> bool {
    #[cfg(any(test, feature = "test-guards"))]
    return armed::guard(_name);
    #[cfg(not(any(test, feature = "test-guards")))]
    true
}

#[cfg(any(test, feature = "test-guards"))]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    #[expect(
        clippy::disallowed_methods,
        reason = "set by tests only; unit tests have no config room to read it"
    )]
    fn said(variable: &str) -> Option<String> {
        std::env::var(variable).ok()
    }

    pub(super) fn guard(name: &str) -> bool {
        static OFF: OnceLock<Option<String>> = OnceLock::new();
        OFF.get_or_init(|| said("TIDELOCK_TEST_GUARD_OFF")).as_deref() != Some(name)
    }

    pub(super) fn reach(name: &str) {
        static POINT: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static TIMES: AtomicU64 = AtomicU64::new(0);
        let point = POINT.get_or_init(|| said("TIDELOCK_TEST_FAILPOINT").map(|text| parse(&text)));
        let Some((wanted, time)) = point else { return };
        if wanted == name && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *time {
            // As the kernel would: no unwinding, no flush, no goodbye.
            let _ = kill_process(getpid(), Signal::KILL);
            std::thread::park();
        }
    }

    fn parse(text: &str) -> (String, u64) {
        match text.split_once(':') {
            Some((name, time)) => (name.to_owned(), time.parse().unwrap_or(1)),
            None => (text.to_owned(), 1),
        }
    }
}
