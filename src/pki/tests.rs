//! The authority through its whole life, judged by rustls' own verifier. Must not read the time: each test brings its own.

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;
use jiff::Timestamp;

const NAME: &str = "tidelock-server.tidelock.svc";
const TEN_SECONDS: Lifetimes =
    Lifetimes { authority: Duration::from_secs(1000), leaf: Duration::from_secs(10) };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

fn authority() -> Authority {
    Authority::create("test", TEN_SECONDS, at(0)).unwrap()
}

fn leaf(authority: &Authority, now: Timestamp) -> Leaf {
    authority.issue(&[NAME.to_owned(), "10.1.2.3".to_owned()], TEN_SECONDS, now).unwrap()
}

/// Whether a client that holds `bundle` trusts the leaf under `name` at `now`.
fn trusts(bundle: &str, leaf: &Leaf, name: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = rustls::ClientConfig::builder();
    let provider = builder.crypto_provider().clone();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let shown = leaf.certified();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap()));
    verifier.verify_server_cert(&shown.cert[0], &shown.cert[1..], &name, &[], now).map(|_| ())
}

#[test]
fn a_leaf_is_trusted_by_whoever_holds_the_bundle_for_its_names_and_its_life_only() {
    let authority = authority();
    let leaf = leaf(&authority, at(5));
    let bundle = authority.bundle(at(5));
    for name in [NAME, "10.1.2.3"] {
        trusts(&bundle, &leaf, name, at(5)).unwrap();
        trusts(&bundle, &leaf, name, at(14)).unwrap();
    }
    trusts(&bundle, &leaf, "tidelock-server.other.svc", at(5)).unwrap_err();
    trusts(&bundle, &leaf, NAME, at(16)).unwrap_err();
    let stranger = Authority::create("test", TEN_SECONDS, at(0)).unwrap();
    trusts(&stranger.bundle(at(5)), &leaf, NAME, at(5)).unwrap_err();
}

#[test]
fn a_client_whose_clock_is_a_little_behind_trusts_a_new_leaf() {
    let made = Authority::create("test", Lifetimes::default(), at(0)).unwrap();
    let leaf = made.issue(&[NAME.to_owned()], Lifetimes::default(), at(0)).unwrap();
    trusts(&made.bundle(at(0)), &leaf, NAME, at(-299)).unwrap();
}

#[test]
fn a_leaf_is_renewed_at_half_of_its_life_and_never_outlives_its_authority() {
    let authority = authority();
    let early = leaf(&authority, at(100));
    assert_eq!((early.renew_at(), early.ends()), (at(105), at(110)));
    let late = leaf(&authority, at(996));
    assert_eq!((late.renew_at(), late.ends()), (at(998), at(1000)));
}

#[test]
fn the_next_authority_is_published_before_it_signs_and_nobody_loses_trust() {
    let mut authority = authority();
    let mut changes = Vec::new();
    let mut bundles: Vec<(Timestamp, String)> = Vec::new();
    for second in 0..3000 {
        let now = at(second);
        match authority.advance("test", TEN_SECONDS, now).unwrap() {
            Change::None => {}
            change => changes.push((second, change)),
        }
        // Every client fetched the bundle at most 150 s ago: less than the quarter between publishing and signing.
        if second % 50 == 0 {
            bundles.push((now, authority.bundle(now)));
            let leaf = leaf(&authority, now);
            for (fetched, bundle) in bundles.iter().rev().take(4) {
                trusts(bundle, &leaf, NAME, now)
                    .unwrap_or_else(|error| panic!("bundle of {fetched}, leaf of {now}: {error}"));
            }
        }
    }
    let kinds: Vec<Change> = changes.iter().map(|(_, change)| *change).collect();
    assert_eq!(
        kinds[..4],
        [Change::NextPublished, Change::NextSigns, Change::NextPublished, Change::NextSigns]
    );
    let (published, signs) = (changes[0].0, changes[1].0);
    assert!(signs - published >= 200, "{changes:?}");
}

#[test]
fn advance_at_is_when_advance_does_something() {
    let mut authority = authority();
    for _ in 0..5 {
        let due = authority.advance_at();
        let before = due.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(authority.advance("test", TEN_SECONDS, before).unwrap(), Change::None);
        assert_ne!(authority.advance("test", TEN_SECONDS, due).unwrap(), Change::None);
    }
}

#[test]
fn an_authority_that_ended_unwatched_is_replaced() {
    let mut unwatched = authority();
    assert_eq!(unwatched.advance("test", TEN_SECONDS, at(5000)).unwrap(), Change::NextSigns);
    trusts(&unwatched.bundle(at(5000)), &leaf(&unwatched, at(5000)), NAME, at(5000)).unwrap();
}

#[test]
fn what_is_stored_is_read_back_with_its_successor_and_predecessor() {
    let mut authority = authority();
    for now in [at(500), at(800), at(1400)] {
        authority.advance("test", TEN_SECONDS, now).unwrap();
        let files = authority.files();
        let read = Authority::parse(&files).unwrap();
        assert_eq!(read.bundle(now), authority.bundle(now));
        assert_eq!(read.advance_at(), authority.advance_at());
        assert!(read.files() == files);
        trusts(&authority.bundle(now), &leaf(&read, now), NAME, now).unwrap();
    }
}

#[test]
fn a_stored_authority_that_is_damaged_is_refused_with_the_name_of_the_file() {
    #[track_caller]
    fn check(damage: impl Fn(&mut Files), expected: &str) {
        let mut authority = authority();
        authority.advance("test", TEN_SECONDS, at(500)).unwrap();
        let mut files = authority.files();
        damage(&mut files);
        let error = Authority::parse(&files).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let key = String::from_utf8(authority.files()[file::KEY].to_vec()).unwrap();
        assert!(!error.contains(key.lines().nth(1).unwrap()), "an error must not quote a key");
    }
    let put = |files: &mut Files, name: &str, text: &str| {
        files.insert(name.to_owned(), text.as_bytes().to_vec().into());
    };
    check(|files| drop(files.remove(file::CERTIFICATE)), "`ca.crt` is missing");
    check(|files| drop(files.remove(file::KEY)), "`ca.key` is missing");
    check(|files| put(files, file::CERTIFICATE, "hello"), "`ca.crt` of the stored");
    check(|files| put(files, file::KEY, "-----BEGIN PRIVATE KEY-----"), "`ca.key` of the stored");
    check(
        |files| {
            let other = files[file::NEXT_KEY].clone();
            files.insert(file::KEY.to_owned(), other);
        },
        "`ca.crt` and `ca.key` of the stored authority do not belong together",
    );
}

#[test]
fn the_bundle_holds_no_key() {
    let mut authority = authority();
    authority.advance("test", TEN_SECONDS, at(500)).unwrap();
    let bundle = authority.bundle(at(500));
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!bundle.contains("PRIVATE"));
    assert!(!format!("{authority:?}").contains("PRIVATE"));
}
