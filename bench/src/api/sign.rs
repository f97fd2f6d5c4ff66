//! Signs a request as AWS's clients do, over the headers that they sign. Must not share code with the server that
//! verifies it: a fault in both would hide itself.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tidelock::seal::{hex, hmac_sha256, sha256};

const SERVICE: &str = "secretsmanager";
const SIGNED: &str = "host;x-amz-date;x-amz-security-token;x-amz-target";

/// Keys of a session, and where they are for.
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: String,
    pub region: String,
    /// The key of a day, as clients keep it.
    pub of_day: Mutex<Option<(String, [u8; 32])>>,
}

/// The headers that make a request a signed one.
pub struct Signature {
    pub date: String,
    pub authorization: String,
}

impl Keys {
    /// Of `POST /`.
    pub fn sign(&self, at: Timestamp, host: &str, target: &str, body: &[u8]) -> Signature {
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = date.get(..8).unwrap_or_default();
        let canonical = format!(
            "POST\n/\n\nhost:{host}\nx-amz-date:{date}\nx-amz-security-token:{}\nx-amz-target:{target}\n\n{SIGNED}\n{}",
            self.token,
            hex(&sha256(body))
        );
        let scope = format!("{day}/{}/{SERVICE}/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
        let signature = hex(&hmac_sha256(&self.key_of(day), text.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}",
            self.id
        );
        Signature { date, authorization }
    }

    fn key_of(&self, day: &str) -> [u8; 32] {
        let mut kept = self.of_day.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, key)) if of == day => *key,
            _ => {
                let key = hmac_sha256(format!("AWS4{}", self.secret).as_bytes(), day.as_bytes());
                let words = [self.region.as_str(), SERVICE, "aws4_request"];
                let key = words.iter().fold(key, |key, word| hmac_sha256(&key, word.as_bytes()));
                *kept = Some((day.to_owned(), key));
                key
            }
        }
    }
}
