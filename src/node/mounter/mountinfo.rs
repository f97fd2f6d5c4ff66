//! Reads the kernel's table of mounts.
//! Must not open anything: the text comes in.

/// One mount of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The kernel's number of the mount, which another one gets after its end.
    pub id: u64,
    pub mount_point: String,
    pub file_system: String,
    pub source: String,
    pub options: String,
}

impl MountEntry {
    /// The value of `name=value` among the file system's options.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn has_flag(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }
}

/// Lines that are not understood are left out: they are not ours.
pub fn parse(text: &str) -> impl Iterator<Item = MountEntry> {
    text.lines().filter_map(parse_line)
}

fn parse_line(line: &str) -> Option<MountEntry> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let mount_point = unescape(fields.nth(3)?)?;
    let mut fields = file_system.split(' ');
    let file_system = fields.next()?.to_owned();
    let source = unescape(fields.next()?)?;
    let options = fields.next()?.to_owned();
    Some(MountEntry { id, mount_point, file_system, source, options })
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let code = part.get(..3)?;
        bytes.push(u8::from_str_radix(code, 8).ok()?);
        bytes.extend_from_slice(part.get(3..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_options_and_escapes() {
        let text = "\
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 36 0:52 / /var/lib/a\\040b/mount rw,nosuid shared:9 master:3 - tmpfs csi.tidelock.dev rw,size=256k,noswap,gid=2000
nonsense
41 36 0:53 / /x rw - tmpfs none
";
        let found: Vec<MountEntry> = parse(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].id, found[0].mount_point.as_str()), (36, "/mnt2"));
        assert_eq!(
            (found[1].mount_point.as_str(), found[1].source.as_str()),
            ("/var/lib/a b/mount", "csi.tidelock.dev")
        );
        assert_eq!(found[1].option("gid"), Some("2000"));
        assert_eq!(found[1].option("mode"), None);
        assert!(found[1].has_flag("noswap") && !found[1].has_flag("gid"));
    }
}
