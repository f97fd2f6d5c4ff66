//! What a person has settled for all commands: a small file in YAML, `tidelock/config.yaml` in the user's
//! configuration folder. Must not take secrets, and must not repeat what it refuses: somebody may have put one there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::CliError;
use super::server::Account;

const SERVICE_ACCOUNT: &str = "serviceAccount";
/// No settings need more.
const BYTES_MAX: u64 = 64 * 1024;

/// The settings of one person on one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// As whom values are read when `--service-account` is not given.
    pub service_account: Option<Account>,
}

/// Where the settings may lie, as `config` found it. They are read only by the commands that need them.
#[derive(Debug, Clone, Default)]
pub struct SettingsFile(pub Option<PathBuf>);

impl SettingsFile {
    /// Without a file nothing is settled.
    pub fn read(&self) -> Result<Settings, CliError> {
        let Some(path) = &self.0 else { return Ok(Settings::default()) };
        let refused = |what: String| CliError::Settings { path: path.clone(), what };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(error) => return Err(refused(format!("it cannot be read: {error}"))),
        };
        // Whoever writes here chooses as whom this person acts.
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err(refused("other users may write it: `chmod go-w` it".to_owned()));
        }
        if metadata.len() > BYTES_MAX {
            return Err(refused(format!("it is larger than {BYTES_MAX} bytes")));
        }
        let text =
            fs::read_to_string(path).map_err(|error| refused(format!("it cannot be read: {error}")))?;
        parse(&text).map_err(refused)
    }

    /// Where to write them, for messages.
    pub fn shown(&self) -> String {
        self.0.as_deref().unwrap_or(Path::new("~/.config/tidelock/config.yaml")).display().to_string()
    }
}

fn parse(text: &str) -> Result<Settings, String> {
    let document: Value = serde_yaml::from_str(text).map_err(|error| match error.location() {
        // The parser's own words quote the file.
        Some(place) => format!("it is not YAML at line {}", place.line()),
        None => "it is not YAML".to_owned(),
    })?;
    let fields = match document {
        Value::Null => return Ok(Settings::default()),
        Value::Object(fields) => fields,
        _ => return Err(format!("write fields, such as `{SERVICE_ACCOUNT}: shop/orders-api`")),
    };
    let mut settings = Settings::default();
    for (field, value) in fields {
        if field != SERVICE_ACCOUNT {
            return Err(format!(
                "`{field}` is no setting: remove it. There is `{SERVICE_ACCOUNT}` alone; tokens, passwords and other \
                 secrets do not belong in this file"
            ));
        }
        let account = value.as_str().and_then(Account::parse).ok_or_else(|| {
            format!("`{SERVICE_ACCOUNT}`: write namespace/name, such as shop/orders-api, and nothing else")
        })?;
        settings.service_account = Some(account);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_settles_as_whom_values_are_read() {
        let settings = parse("# mine\nserviceAccount: shop/orders-api\n").unwrap();
        assert_eq!(settings.service_account, Account::parse("shop/orders-api"));
        assert_eq!(parse("").unwrap(), Settings::default());
        assert_eq!(parse("# nothing yet\n").unwrap(), Settings::default());
    }

    #[test]
    fn what_does_not_belong_there_is_refused_by_the_name_of_its_field_and_never_repeated() {
        for (text, named) in [
            ("serviceAccount: shop/a\ntoken: hunter2\n", "`token`"),
            ("password: hunter2\n", "`password`"),
            ("serviceaccount: hunter2/a\n", "`serviceaccount`"),
            ("serviceAccount: {name: hunter2}\n", "`serviceAccount`"),
            ("serviceAccount: hunter2\n", "`serviceAccount`"),
            ("serviceAccount: shop/hunter2/b\n", "`serviceAccount`"),
            ("- hunter2\n", "`serviceAccount: shop/orders-api`"),
            ("a: [hunter2\n", "not YAML at line"),
            ("serviceAccount: shop/hunter2\nserviceAccount: shop/b\n", "not YAML at line"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_refused_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = SettingsFile(Some(folder.path().join("config.yaml")));
        assert_eq!(file.read().unwrap(), Settings::default());
        fs::write(file.0.as_ref().unwrap(), "serviceAccount: shop/orders-api\n").unwrap();
        let mode =
            |mode| fs::set_permissions(file.0.as_ref().unwrap(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o664);
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("config.yaml") && error.contains("chmod go-w"), "{error}");
        mode(0o644);
        assert!(file.read().unwrap().service_account.is_some());
    }
}
