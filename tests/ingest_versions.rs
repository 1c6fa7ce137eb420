//! Installed versions, found by folder names alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use oomph::ingest::versions::{Environment, InstalledVersions, Via, find, parse_version};
use oomph::step::setup::Version;
use tempfile::TempDir;

struct Machine(TempDir);

impl Machine {
    fn new() -> Machine {
        Machine(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Installs packages, named as their folders are, in `prefix`.
    fn install(&self, prefix: &str, python: &str, packages: &[&str]) {
        for package in packages {
            let folder = self.path(&format!("{prefix}/lib/{python}/site-packages/{package}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("METADATA"), "").unwrap();
        }
        self.write(&format!("{prefix}/bin/python3"), "");
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn on_path(&self, folders: &[&str]) -> Option<OsString> {
        Some(std::env::join_paths(folders.iter().map(|folder| self.path(folder))).unwrap())
    }
}

fn versions(found: &InstalledVersions) -> (Option<&str>, Option<&str>) {
    let text = |package: &Option<oomph::ingest::versions::Installed>| {
        package.as_ref().map(|installed| installed.text.clone().leak() as &str)
    };
    (text(&found.torch), text(&found.transformers))
}

#[test]
fn a_virtual_environment_answers_first() {
    let machine = Machine::new();
    machine.install(
        "venv",
        "python3.11",
        &[
            "torch-2.8.0+cu128.dist-info",
            "transformers-4.56.2.dist-info",
            "torchvision-0.23.0.dist-info",
        ],
    );
    machine.install("conda", "python3.12", &["torch-2.1.0.dist-info"]);
    let found = find(&Environment {
        virtual_env: Some(machine.path("venv")),
        conda_prefix: Some(machine.path("conda")),
        ..Environment::default()
    });
    assert_eq!(versions(&found), (Some("2.8.0+cu128"), Some("4.56.2")));
    let torch = found.torch.unwrap();
    assert_eq!((torch.version, torch.via), (Version::new(2, 8), Via::VirtualEnv));
    assert!(torch.found.ends_with("torch-2.8.0+cu128.dist-info"));
}

#[test]
fn an_environment_without_pytorch_is_not_answered_by_another() {
    let machine = Machine::new();
    machine.install("venv", "python3.11", &["transformers-5.23.0.dist-info"]);
    machine.install("conda", "python3.12", &["torch-2.1.0.dist-info"]);
    let found = find(&Environment {
        virtual_env: Some(machine.path("venv")),
        conda_prefix: Some(machine.path("conda")),
        path: machine.on_path(&["conda/bin"]),
        ..Environment::default()
    });
    assert_eq!(versions(&found), (None, Some("5.23.0")));
}

#[test]
fn a_variable_that_leads_nowhere_is_passed_over() {
    let machine = Machine::new();
    machine.install("conda", "python3.12", &["torch-2.1.0.dist-info"]);
    let found = find(&Environment {
        virtual_env: Some(machine.path("deleted")),
        conda_prefix: Some(machine.path("conda")),
        ..Environment::default()
    });
    assert_eq!(found.torch.unwrap().via, Via::CondaPrefix);
}

#[test]
fn the_first_python3_on_the_path_is_the_one_that_would_run() {
    let machine = Machine::new();
    machine.install("first", "python3.11", &["torch-2.6.0.dist-info"]);
    machine.install("second", "python3.11", &["torch-2.7.0.dist-info"]);
    let path = machine.on_path(&["nothing/bin", "first/bin", "second/bin"]);
    let found = find(&Environment { path, ..Environment::default() });
    assert_eq!(versions(&found), (Some("2.6.0"), None));
    assert_eq!(found.torch.unwrap().via, Via::Path);
}

#[cfg(unix)]
#[test]
fn the_link_of_python3_says_which_of_several_pythons_runs() {
    let machine = Machine::new();
    machine.install("usr", "python3.9", &["torch-2.1.0.dist-info"]);
    machine.install("usr", "python3.12", &["torch-2.9.0.dist-info"]);
    machine.write("usr/bin/python3.9", "");
    fs::remove_file(machine.path("usr/bin/python3")).unwrap();
    std::os::unix::fs::symlink("python3.9", machine.path("usr/bin/python3")).unwrap();
    let path = machine.on_path(&["usr/bin"]);
    let found = find(&Environment { path, ..Environment::default() });
    assert_eq!(versions(&found), (Some("2.1.0"), None));
}

#[cfg(unix)]
#[test]
fn a_link_from_a_folder_of_links_leads_to_the_real_python() {
    let machine = Machine::new();
    machine.install("opt/python", "python3.12", &["torch-2.9.0.dist-info"]);
    fs::create_dir_all(machine.path("home/bin")).unwrap();
    std::os::unix::fs::symlink(
        machine.path("opt/python/bin/python3"),
        machine.path("home/bin/python3"),
    )
    .unwrap();
    let path = machine.on_path(&["home/bin"]);
    let found = find(&Environment { path, ..Environment::default() });
    assert_eq!(versions(&found), (Some("2.9.0"), None));
}

#[test]
fn the_users_own_packages_come_before_the_systems_but_not_into_a_virtual_environment() {
    let machine = Machine::new();
    machine.install("usr", "python3.12", &["torch-2.1.0.dist-info"]);
    machine.install("home/.local", "python3.12", &["torch-2.9.0.dist-info"]);
    machine.install("home/.local", "python3.8", &["torch-1.9.0.dist-info"]);
    machine.install("venv", "python3.12", &["transformers-5.0.0.dist-info"]);
    let home = Some(machine.path("home"));
    let system =
        Environment { path: machine.on_path(&["usr/bin"]), home, ..Environment::default() };
    assert_eq!(versions(&find(&system)), (Some("2.9.0"), None));
    machine.write("venv/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n");
    let venv = Environment { virtual_env: Some(machine.path("venv")), ..system };
    assert_eq!(versions(&find(&venv)), (None, Some("5.0.0")));
}

#[test]
fn a_virtual_environment_that_includes_its_base_sees_it() {
    let machine = Machine::new();
    machine.install(
        "base",
        "python3.12",
        &["torch-2.8.0.dist-info", "transformers-4.40.0.dist-info"],
    );
    machine.install("venv", "python3.12", &["transformers-5.0.0.dist-info"]);
    let home = machine.path("base/bin");
    machine.write(
        "venv/pyvenv.cfg",
        &format!("home = {}\ninclude-system-site-packages = true\n", home.display()),
    );
    let virtual_env = Some(machine.path("venv"));
    let found = find(&Environment { virtual_env, ..Environment::default() });
    assert_eq!(versions(&found), (Some("2.8.0"), Some("5.0.0")));
}

#[test]
fn the_folder_with_metadata_counts_after_a_broken_upgrade() {
    let machine = Machine::new();
    machine.install("venv", "python3.11", &["torch-2.7.1.dist-info"]);
    let left_over = "venv/lib/python3.11/site-packages/torch-2.9.0.dist-info";
    fs::create_dir_all(machine.path(left_over)).unwrap();
    fs::create_dir_all(machine.path("venv/lib/python3.11/site-packages/~orch-2.0.0.dist-info"))
        .unwrap();
    let virtual_env = Some(machine.path("venv"));
    let found = find(&Environment { virtual_env, ..Environment::default() });
    assert_eq!(versions(&found), (Some("2.7.1"), None));
}

#[test]
fn eggs_of_condas_own_packages_count_too() {
    let machine = Machine::new();
    machine.write("conda/lib/python3.10/site-packages/torch-2.0.1-py3.10.egg-info/PKG-INFO", "");
    let conda_prefix = Some(machine.path("conda"));
    let found = find(&Environment { conda_prefix, ..Environment::default() });
    assert_eq!(versions(&found), (Some("2.0.1"), None));
}

#[test]
fn nothing_set_and_nothing_installed_is_nothing_found() {
    assert_eq!(find(&Environment::default()), InstalledVersions::default());
    let odd = Environment {
        virtual_env: Some(PathBuf::from("/dev/null")),
        conda_prefix: Some(Path::new("relative").to_owned()),
        path: Some(OsString::from("::relative/bin:/nowhere")),
        home: Some(PathBuf::from("/nowhere")),
    };
    assert_eq!(find(&odd), InstalledVersions::default());
}

#[test]
fn versions_are_read_in_every_form_that_packages_use() {
    for (text, version) in [
        ("2.8.0", Some((2, 8))),
        ("2.8.0+cu128", Some((2, 8))),
        ("2.15.0.dev20261101+cu132", Some((2, 15))),
        ("2.9.0a0+git85cb48a", Some((2, 9))),
        ("5.0rc1", Some((5, 0))),
        ("v4.56", Some((4, 56))),
        ("2", None),
        ("torch", None),
        ("2.x", None),
        ("", None),
        ("99999999999.0", None),
    ] {
        let expected = version.map(|(major, minor)| Version::new(major, minor));
        assert_eq!(parse_version(text), expected, "{text}");
    }
}
