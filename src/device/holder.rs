//! What /proc tells of a process that holds GPU memory: whose it is, what it runs, in which container,
//! how old it is.

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
    /// The container that it runs in, by the first twelve digits of its number, as
    /// `docker ps` and `podman ps` show it.
    pub container: Option<String>,
    /// Since when it runs.
    pub age: Option<Duration>,
}

/// Characters kept of a command line.
pub const LONGEST_COMMAND: usize = 256;

/// Digits of a container's number that are shown.
const CONTAINER_DIGITS: usize = 12;
/// All digits of a container's number, hexadecimal.
const ALL_DIGITS: usize = 64;

/// Clock ticks of a second in /proc.
///
/// Source: Linux, include/asm-generic/param.h, `USER_HZ`; that of x86, Arm and Power, on which
/// NVIDIA's driver runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Looks a process up.
pub fn look_up(pid: u32) -> Holder {
    Holder { user: user(pid), command: command(pid), container: container(pid), age: age(pid) }
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

fn container(pid: u32) -> Option<String> {
    container_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Finds a container's number in the text of `/proc/PID/cgroup` (cgroups(7)): it is, or is part of, the
/// name of one of its control groups; the innermost counts.
///
/// Docker and Podman: `docker-NUMBER.scope`, `libpod-NUMBER.scope`, or `docker/NUMBER` without
/// systemd; Kubernetes: `cri-containerd-NUMBER.scope`, `crio-NUMBER.scope`, or the number alone.
fn container_of(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut names = paths.flat_map(|path| path.rsplit('/'));
    names.find_map(|name| {
        let number = name.trim_end_matches(".scope").rsplit('-').next()?;
        let is_one = number.len() == ALL_DIGITS && number.bytes().all(|b| b.is_ascii_hexdigit());
        is_one.then(|| number[..CONTAINER_DIGITS].to_owned())
    })
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
    fn a_container_is_known_by_its_control_group() {
        let number = "0123456789abcdef".repeat(4);
        for path in [
            format!("0::/system.slice/docker-{number}.scope"),
            format!("12:memory:/docker/{number}\n11:cpu:/docker/{number}"),
            format!("0::/machine.slice/libpod-{number}.scope/container"),
            format!("0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{number}.scope"),
            format!("0::/../crio-{number}.scope"),
        ] {
            assert_eq!(container_of(&path).as_deref(), Some("0123456789ab"), "{path}");
        }
        for path in ["0::/user.slice/user-1000.slice/session-3.scope", "0::/", "", "0::/x-0123"] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(&format!("7 (a) b (c)) {rest}")), Some(4242));
    }
}
