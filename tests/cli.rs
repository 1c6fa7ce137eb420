//! The real binary: exit codes, messages, help, pipes and colours. No GPU, no network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod mistakes;

use std::io::Read;
use std::process::Stdio;

use answers::{command, json, oomph, oomph_in, text, words};
use mistakes::MISTAKES;
use tempfile::TempDir;

#[test]
fn a_mistake_gets_its_exit_code_the_value_and_the_cure() {
    for (line, code, parts) in MISTAKES {
        let output = oomph(line);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{line}: {stderr}");
        assert!(output.stdout.is_empty(), "{line}: stdout is for answers");
        assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{line}: {stderr}");
        for part in *parts {
            assert!(stderr.contains(part), "{line}: no `{part}` in\n{stderr}");
        }
    }
}

#[test]
fn with_json_a_mistake_is_an_object_on_stdout_as_well() {
    for (line, code, _) in MISTAKES {
        let (before, after) = line.split_once(" -- ").unwrap_or((line, ""));
        let output = oomph(&format!("--json {before} -- {after}").replace(" -- \n", ""));
        let error = json(&output);
        assert_eq!(error["schema"], "oomph.error/1", "{line}");
        assert_eq!(error["exit_code"], output.status.code().unwrap(), "{line}");
        // `--` at the end may itself be what is wrong; the code is then that of usage.
        assert!([*code, 2].contains(&output.status.code().unwrap()), "{line}");
        assert!(error["error"].is_string() && error["hint"].is_string(), "{line}: {error}");
    }
}

#[test]
fn oomph_toml_holds_the_flags_and_flags_win() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("oomph.toml"), "precision = \"bf16\"\nseq-len = 128\n")
        .unwrap();
    let setup = |arguments: &[&str]| {
        json(&oomph_in(folder.path(), &[&["estimate", "gpt2", "--json"], arguments].concat()))
    };
    assert_eq!(setup(&[])["setup"]["seq_len"], 128);
    assert_eq!(setup(&["--seq-len", "64"])["setup"]["seq_len"], 64);
    std::fs::write(folder.path().join("other.toml"), "seq_len = 9\n").unwrap();
    let wrong = oomph_in(folder.path(), &["estimate", "gpt2", "--config", "other.toml"]);
    let stderr = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr.contains("`other.toml` line 1: no key `seq_len`"), "{stderr}");
    assert!(stderr.contains("`seq-len`"), "{stderr}");
}

#[test]
fn a_broken_config_json_is_named_with_its_cure() {
    let folder = TempDir::new().unwrap();
    for (name, content, part) in [
        ("empty.json", "", "empty"),
        ("cut.json", "{\"model_type\": \"llama\", \"hidden", "cut.json"),
        ("other.json", "{\"a\": 1}", "model_type"),
        ("pegasus.json", "{\"model_type\": \"pegasus\"}", "pegasus"),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
        let output = oomph_in(folder.path(), &["estimate", name, "--precision", "bf16"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(part) && stderr.contains("hint: "), "{name}: {stderr}");
    }
}

#[test]
fn colour_obeys_the_flag_then_no_color() {
    let folder = TempDir::new().unwrap();
    let escapes = |arguments: &str, no_color: &str| {
        let line = format!("profiles list {arguments}");
        let mut command = command(folder.path(), &words(&line));
        command.env("NO_COLOR", no_color);
        text(&command.output().unwrap().stdout).contains('\x1b')
    };
    assert!(escapes("--color always", ""));
    assert!(escapes("--color=always", "1"), "the flag wins");
    assert!(!escapes("--color never", ""));
    assert!(!escapes("", ""), "a pipe is no terminal");
    let error = oomph("--color always estimate nope");
    assert!(text(&error.stderr).contains("\x1b[1;31merror:"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = TempDir::new().unwrap();
    let mut child = command(folder.path(), &["profiles", "list", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let folder = TempDir::new().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(folder.path(), &["profiles", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write the answer"));
}

/// Every example in every help text, without the `oomph` in front.
fn examples() -> Vec<String> {
    let commands = [
        "",
        "gpus",
        "wait",
        "estimate",
        "probe",
        "plan",
        "profiles",
        "profiles list",
        "profiles show",
        "completions",
        "man",
    ];
    let mut found = Vec::new();
    for command in commands {
        let output = oomph(&format!("{command} --help"));
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = text(&output.stdout);
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command}"));
        let lines: Vec<&str> =
            examples.lines().filter_map(|line| line.trim().strip_prefix("oomph ")).collect();
        assert!((2..=3).contains(&lines.len()), "{command}: {lines:?}");
        found.extend(lines.into_iter().map(str::to_owned));
    }
    found
}

#[test]
fn the_examples_of_every_help_text_run() {
    // Without a driver, also where there is one: a busy GPU would be waited for.
    let folder = TempDir::new().unwrap();
    for name in oomph::device::virtual_library::DRIVER_NAMES {
        std::fs::write(folder.path().join(name), "not a library").unwrap();
    }
    for example in examples() {
        // What a shell would make of the answer is not oomph's.
        let example = example.split(['>', '|']).next().unwrap();
        let output =
            command(folder.path(), &words(example)).env("LD_LIBRARY_PATH", folder.path()).output();
        let output = output.unwrap();
        let code = output.status.code().unwrap();
        let no_gpu_here = code == 4 && !example.contains("sim:");
        assert!(code == 0 || no_gpu_here, "{example}: {code} {}", text(&output.stderr));
    }
}

#[test]
fn version_and_help_go_to_stdout() {
    let version = oomph("--version");
    assert_eq!(text(&version.stdout), format!("oomph {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = oomph("");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("Usage: oomph"));
}

#[test]
fn every_shell_completes_every_command_and_the_manual_has_a_page_for_each() {
    let help = text(&oomph("--help").stdout);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.contains(&"plan") && commands.contains(&"man"), "{commands:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = text(&oomph(&format!("completions {shell}")).stdout);
        for part in commands.iter().chain(&["effective-batch"]) {
            assert!(script.contains(part), "{shell}: no `{part}`");
        }
        // clap_complete knows no values there.
        let names_values = !["elvish", "powershell"].contains(&shell);
        assert_eq!(script.contains("deepspeed"), names_values, "{shell}");
    }
    for command in commands.iter().filter(|command| **command != "help") {
        let page = text(&oomph(&format!("man {command}")).stdout);
        assert!(page.contains(&format!(".TH oomph-{command} 1")), "{page}");
        assert!(page.contains(".SH EXAMPLES\n.nf\n  oomph "), "{command}: {page}");
        // The codes of the page are those of the help.
        let help = text(&oomph(&format!("{command} --help")).stdout);
        let (_, listed) = help.split_once("Exit codes:\n").unwrap();
        let listed = listed.lines().map_while(|line| line.trim().split("  ").next()?.parse().ok());
        let listed: Vec<u8> = listed.collect();
        let (_, status) = page.split_once(".SH \"EXIT STATUS\"\n").unwrap();
        let (status, _) = status.split_once(".SH").unwrap();
        let bold =
            status.lines().filter_map(|line| line.strip_prefix("\\fB")?.strip_suffix("\\fR"));
        assert_eq!(
            bold.map(|code| code.parse().unwrap()).collect::<Vec<u8>>(),
            listed,
            "{command}"
        );
        assert!(listed.contains(&0) && listed.contains(&2) && listed.is_sorted(), "{command}");
        assert_eq!(listed.contains(&75), *command == "wait", "{command}");
        assert_eq!(listed.contains(&143), ["probe", "plan", "run", "trial"].contains(command));
    }
    let page = text(&oomph("man").stdout);
    assert!(page.contains(".TH oomph 1") && page.contains("EXIT STATUS"), "{page}");
}

#[test]
fn every_option_with_a_value_says_its_default() {
    // What is only done when it is asked for has none, nor has what must be given.
    const WITHOUT: [&str; 7] =
        ["--baseline", "--by", "--emit", "--out", "--record", "--select", "--min-free"];
    let mut looked_at = 0;
    for command in ["gpus", "wait", "estimate", "probe", "plan", "advise", "check", "trial", "run"]
    {
        let help = text(&oomph(&format!("{command} --help")).stdout);
        for option in help.split("\n      --").skip(1) {
            let (head, body) = option.split_once('\n').unwrap();
            let Some((name, _)) = head.split_once(" <") else { continue };
            if WITHOUT.contains(&format!("--{name}").as_str()) || (command, name) == ("run", "gpu")
            {
                continue;
            }
            assert!(body.contains("[default:"), "{command} --{name}: {body}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 150, "{looked_at}");
}

#[test]
fn profiles_name_models_and_gpus_with_their_sources() {
    let list = json(&oomph("profiles list --json"));
    assert_eq!(list["schema"], "oomph.profiles/1");
    for kind in ["models", "gpus"] {
        let all = list[kind].as_array().unwrap();
        assert!(all.iter().all(|one| one["source"].as_str().is_some_and(|s| !s.trim().is_empty())));
    }
    let one = json(&oomph("profiles show sim:h100-80gb --json"));
    assert_eq!((&one["schema"], &one["name"]), (&"oomph.gpu/1".into(), &"h100-80gb".into()));
}

#[test]
fn lists_and_profiles_are_at_most_80_columns_wide() {
    let list = text(&oomph("profiles list").stdout);
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| !["model", "GPU"].contains(name)).collect();
    assert!(names.len() > 50, "{names:?}");
    let mut texts = vec![list.clone()];
    for name in ["sim:h100-80gb", "sim:rtx-pro-6000", "llama-3.2-1b", "tinyllama-1.1b"] {
        assert!(names.contains(&name), "{name}: {list}");
        texts.push(text(&oomph(&format!("profiles show {name}")).stdout));
    }
    for line in [
        "estimate qwen3-30b-a3b --seq-len 512 --lora r=8,targets=q_proj+v_proj --by tensor",
        "estimate gpt2 --by module --timeline",
        "plan gpt2 --effective-batch 264 --gpu sim:l4*4",
        "probe gpt2 --gpu sim:t4",
    ] {
        texts.push(text(&oomph(line).stdout));
    }
    for text in texts {
        assert!(!text.is_empty());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert_eq!(line.trim_end(), line, "no blanks at the end");
        }
    }
}
