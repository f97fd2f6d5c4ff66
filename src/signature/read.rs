//! Reads what a request says of its signature, from the header `Authorization` or from the query of a presigned one.
//! Must not believe any of it.

use http::{HeaderValue, header};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::canonical::pairs;
use super::{ALGORITHM, Fault, Request, Scope, Signed, TERMINATOR};

pub(super) const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";
/// Seven days, as AWS has it.
const PRESIGNED_SECONDS_MAX: u32 = 604_800;
/// More than any client signs.
const HEADERS_MAX: usize = 64;

pub(super) fn read(request: Request<'_>) -> Result<Option<Signed>, Fault> {
    let parameters = Parameters::of(request.query);
    let presigned = parameters.has("X-Amz-Algorithm") || parameters.has(SIGNATURE_PARAMETER);
    let given: Vec<&HeaderValue> = request.headers.get_all(header::AUTHORIZATION).iter().collect();
    let by_header = given.iter().any(|value| value.as_bytes().starts_with(b"AWS4-"));
    match (&given[..], by_header, presigned) {
        (_, false, false) => Ok(None),
        ([], _, true) => from_query(&parameters).map(Some),
        ([one], true, false) => from_header(request, one).map(Some),
        _ => Err(Fault::incomplete("Sign a request in one place: one Authorization header, or the query.")),
    }
}

fn from_header(request: Request<'_>, given: &HeaderValue) -> Result<Signed, Fault> {
    let text = given.to_str().unwrap_or_default();
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if scheme != ALGORITHM {
        return Err(algorithm());
    }
    let part = |name: &str| {
        let mut parts = rest.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let needed = |name: &str| {
        part(name)
            .ok_or_else(|| Fault::incomplete(format!("Authorization header requires '{name}' parameter.")))
    };
    let (credential, headers, signature) =
        (needed("Credential")?, needed("SignedHeaders")?, needed("Signature")?);
    let header = |name: &str| request.headers.get(name)?.to_str().ok().map(str::to_owned);
    let Some(stamp) = header("x-amz-date").or_else(|| header("date")) else {
        let text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
        return Err(Fault::incomplete(text));
    };
    signed(&credential, &headers, signature, stamp, None, header("x-amz-security-token"))
}

fn from_query(parameters: &Parameters) -> Result<Signed, Fault> {
    let needed = |name: &str| {
        parameters.only(name).ok_or_else(|| {
            Fault::incomplete(format!("AWS query-string parameters must include '{name}', once."))
        })
    };
    if needed("X-Amz-Algorithm")? != ALGORITHM {
        return Err(algorithm());
    }
    let expires = needed("X-Amz-Expires")?;
    let lasts = expires.parse::<u32>().ok().filter(|seconds| (1..=PRESIGNED_SECONDS_MAX).contains(seconds));
    let lasts = lasts.ok_or_else(|| {
        Fault::incomplete(format!(
            "X-Amz-Expires must be a number of seconds from 1 to {PRESIGNED_SECONDS_MAX}."
        ))
    })?;
    signed(
        &needed("X-Amz-Credential")?,
        &needed("X-Amz-SignedHeaders")?,
        needed(SIGNATURE_PARAMETER)?,
        needed("X-Amz-Date")?,
        Some(SignedDuration::from_secs(i64::from(lasts))),
        parameters.only("X-Amz-Security-Token"),
    )
}

fn signed(
    credential: &str,
    headers: &str,
    signature: String,
    stamp: String,
    lasts: Option<SignedDuration>,
    session_token: Option<String>,
) -> Result<Signed, Fault> {
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key_id, date, region, service, TERMINATOR] = parts[..] else {
        return Err(Fault::incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request.",
        ));
    };
    let at = time(&stamp).ok_or_else(|| {
        Fault::incomplete(
            "Date must be in ISO-8601 'basic format', as in X-Amz-Date: 20260204T205323Z (or RFC 1123's, in Date).",
        )
    })?;
    let stamp = super::stamp(at);
    if stamp.get(..8) != Some(date) {
        return Err(Fault::incomplete(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.",
        ));
    }
    let headers: Vec<String> = headers.split(';').map(str::to_ascii_lowercase).collect();
    if headers.len() > HEADERS_MAX {
        return Err(Fault::incomplete(format!("At most {HEADERS_MAX} headers can be signed.")));
    }
    Ok(Signed {
        access_key_id: access_key_id.to_owned(),
        session_token,
        scope: Scope { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() },
        headers,
        signature,
        stamp,
        at,
        lasts,
    })
}

fn time(text: &str) -> Option<Timestamp> {
    let basic = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok();
    let zoned = basic.and_then(|time| time.to_zoned(TimeZone::UTC).ok()).map(|zoned| zoned.timestamp());
    zoned.or_else(|| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp()))
}

fn algorithm() -> Fault {
    Fault::incomplete(format!("Unsupported AWS 'algorithm': only {ALGORITHM} is supported."))
}

/// The parameters of a query that are text.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(query: &str) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        Self(pairs(query).filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// The value of a parameter that is given exactly once.
    fn only(&self, name: &str) -> Option<String> {
        let mut given = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = given.next()?;
        given.next().is_none().then(|| value.clone())
    }
}
