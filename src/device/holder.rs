//! What /proc tells of a process that holds GPU memory: whose it is, what it runs, how old it is.

use std::fs;
use std::time::Duration;

use super::processes::printable;

/// What is known of a process beside its bytes; each part is missing where it cannot be read.
///
/// In a container the driver's pids are the host's, so parts can be missing, or even another
/// program's; nothing is decided by them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder {
    /// The user's name, or the number where /etc/passwd has none.
    pub user: Option<String>,
    /// The command line, control characters dropped, at most [`LONGEST_COMMAND`] characters.
    pub command: Option<String>,
    /// Since when it runs.
    pub age: Option<Duration>,
}

/// Characters kept of a command line.
pub const LONGEST_COMMAND: usize = 256;

/// Clock ticks of a second in /proc.
///
/// Source: Linux, include/asm-generic/param.h, `USER_HZ`; that of x86, Arm and Power, on which
/// NVIDIA's driver runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Looks a process up.
pub fn look_up(pid: u32) -> Holder {
    Holder { user: user(pid), command: command(pid), age: age(pid) }
}

fn user(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = real_user(&status)?;
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(name_of_user(&known, uid).unwrap_or_else(|| uid.to_string()))
}

/// Reads the real user's number from the text of `/proc/PID/status` (proc(5): real, effective, ...).
fn real_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Finds a user's name in the text of /etc/passwd (passwd(5): name, password, UID, ...).
fn name_of_user(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| printable(name, 64))
    })
}

fn command(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let line = printable(words.join(" ").trim_end(), LONGEST_COMMAND);
    (!line.is_empty()).then_some(line)
}

/// Works out how long a process runs, from when it started after boot.
fn age(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let started = start_ticks(&stat)? as f64 / TICKS_PER_SECOND;
    Duration::try_from_secs_f64((up - started).max(0.0)).ok()
}

/// Reads field 22 of `/proc/PID/stat` (proc(5)): the start in clock ticks after boot.
fn start_ticks(stat: &str) -> Option<u64> {
    // The name in brackets may hold spaces and brackets: what follows the last one is field 3 on.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_an_owner_a_command_and_an_age() {
        let me = look_up(std::process::id());
        assert!(me.user.is_some() && me.command.is_some(), "{me:?}");
        assert!(me.age.is_some_and(|age| age < Duration::from_secs(24 * 3600)), "{me:?}");
        assert_eq!(look_up(0), Holder::default());
    }

    #[test]
    fn the_real_user_comes_first_of_four() {
        let status = "Name:\tUid: 7\nPid:\t12\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n";
        assert_eq!(real_user(status), Some(1000));
        assert_eq!(real_user("Name:\tx\n"), None);
    }

    #[test]
    fn users_are_found_by_the_whole_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of_user(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of_user(passwd, 100), None);
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(&format!("7 (a) b (c)) {rest}")), Some(4242));
    }
}
