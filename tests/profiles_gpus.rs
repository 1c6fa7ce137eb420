//! The built-in GPU profiles, and reading a user's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use oomph::profile::file::ProfileError;
use oomph::profile::gpu::{self, GpuProfile};
use oomph::units::Bytes;

/// MiB as `nvidia-smi` prints them; each file's `source` says where that was seen.
const TOTAL_MIB: [(&str, u64); 45] = [
    ("t4", 15_360),
    ("v100-16gb", 16_384),
    ("v100-32gb", 32_768),
    ("rtx-3060-12gb", 12_288),
    ("rtx-3090", 24_576),
    ("rtx-4090", 24_564),
    ("rtx-5090", 32_607),
    ("a10", 23_028),
    ("l4", 23_034),
    ("l40s", 46_068),
    ("a100-40gb", 40_960),
    ("a100-80gb", 81_920),
    ("h100-80gb", 81_559),
    ("h200", 143_771),
    ("b200", 183_359),
    ("gh200", 97_871),
    ("rtx-6000-ada", 49_140),
    ("rtx-pro-6000", 97_887),
    ("rtx-3080-10gb", 10_240),
    ("rtx-3080-ti", 12_288),
    ("rtx-3070", 8_192),
    ("rtx-3060-ti", 8_192),
    ("rtx-3090-ti", 24_564),
    ("rtx-a4000", 16_376),
    ("rtx-a5000", 24_564),
    ("rtx-a6000", 49_140),
    ("a40", 46_068),
    ("a30", 24_576),
    ("rtx-2080-ti", 11_264),
    ("gtx-1080-ti", 11_264),
    ("p100-16gb", 16_384),
    ("rtx-4060", 8_188),
    ("rtx-4060-ti-16gb", 16_380),
    ("rtx-4070", 12_282),
    ("rtx-4070-ti-super", 16_376),
    ("rtx-4080", 16_376),
    ("rtx-4080-super", 16_376),
    ("l40", 46_068),
    ("h100-pcie", 81_559),
    ("h100-nvl", 95_830),
    ("h20", 97_871),
    ("b300", 275_040),
    ("gb200", 189_471),
    ("rtx-5070-ti", 16_303),
    ("rtx-5080", 16_303),
];

const WHOLE: &str = r#"product_name = "My GPU"
total_bytes = 25_769_803_776
reserved_bytes = 0
context_bytes = 536_870_912
compute_capability = "8.6"
sm_count = 82
l2_bytes = 6_291_456
boost_clock_mhz = 1695
memory_bandwidth_bytes_per_second = 936_000_000_000
host_link_bytes_per_second = 31_508_000_000
source = "measured"
"#;

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-card.toml");
    fs::write(&file, text).unwrap();
    (folder, file)
}

fn error_of(text: &str) -> ProfileError {
    let (_folder, file) = written(text);
    GpuProfile::load(&file).unwrap_err()
}

#[test]
fn totals_are_what_nvidia_smi_shows() {
    for (name, mib) in TOTAL_MIB {
        assert_eq!(GpuProfile::built_in(name).unwrap().total, Bytes::mib(mib), "{name}");
    }
}

#[test]
fn every_built_in_gpu_loads_and_says_where_its_figures_come_from() {
    let names: Vec<&str> = gpu::names().collect();
    assert_eq!(names.len(), TOTAL_MIB.len());
    assert!(names.is_sorted(), "the lookup is a binary search");
    for name in names {
        let card = GpuProfile::built_in(name).unwrap();
        assert_eq!(card.name, name);
        for figure in ["total", "reserved", "context", "SMs", "clock", "bandwidth"] {
            assert!(card.source.contains(figure), "{name}: no source for {figure}");
        }
        // The firmware's part does not shrink with the card: 375 MiB are 4.6 % of 8 GiB.
        let reserved = card.reserved.get() as f64 / card.total.get() as f64;
        assert!((0.003..0.05).contains(&reserved), "{name}: reserved {reserved}");
        assert!(card.context >= Bytes::mib(256) && card.context <= Bytes::gib(1), "{name}");
    }
}

#[test]
fn nvml_s_name_leads_to_one_profile() {
    for name in gpu::names() {
        let card = GpuProfile::built_in(name).unwrap();
        assert_eq!(GpuProfile::of_product(&card.product_name).unwrap().name, name);
    }
}

#[test]
fn a_name_is_found_in_any_case_and_a_wrong_one_gets_the_nearest() {
    assert_eq!(GpuProfile::built_in("H100-80GB").unwrap().name, "h100-80gb");
    let error = GpuProfile::built_in("rtx4090").unwrap_err();
    assert_eq!(error.to_string(), "there is no GPU profile `rtx4090`");
    assert_eq!(error.hint().unwrap(), "did you mean `rtx-4090`?");
    let error = GpuProfile::built_in("mi300x").unwrap_err();
    assert!(error.hint().unwrap().starts_with("known: a10 a100-40gb"));
}

#[test]
fn a_users_own_file_is_named_as_the_file_is() {
    let (_folder, file) = written(WHOLE);
    let card = GpuProfile::load(&file).unwrap();
    assert_eq!(card.name, "my-card");
    assert_eq!(card.total, Bytes::gib(24));
    assert_eq!(card.arch.compute_capability, (8, 6));
    assert_eq!(card.arch.sm_count, 82);
}

#[test]
fn a_folder_of_files_is_read_by_name_and_others_are_left_alone() {
    let (folder, _) = written(WHOLE);
    fs::write(folder.path().join("another.toml"), WHOLE).unwrap();
    fs::write(folder.path().join("notes.txt"), "not a profile").unwrap();
    let cards = GpuProfile::load_folder(folder.path()).unwrap();
    let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
    assert_eq!(names, ["another", "my-card"]);
    assert!(GpuProfile::load_folder(&folder.path().join("nowhere")).is_err());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let error = error_of(&WHOLE.replace("total_bytes", "total_byte"));
    let ProfileError::UnknownKey { file, line, key, nearest } = &error else { panic!("{error}") };
    assert!(file.ends_with("my-card.toml"));
    assert_eq!((*line, key.as_str(), *nearest), (2, "total_byte", Some("total_bytes")));
    assert_eq!(error.hint().unwrap(), "the nearest known key is `total_bytes`");
}

#[test]
fn a_missing_key_is_named() {
    let error = error_of(&WHOLE.replace("sm_count = 82\n", ""));
    assert!(matches!(&error, ProfileError::MissingKey { key, .. } if key == "sm_count"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_line() {
    for (from, to) in [
        ("25_769_803_776", "\"24 GiB\""),
        ("25_769_803_776", "-1"),
        ("25_769_803_776", "25_769_803_776.0"),
    ] {
        let error = error_of(&WHOLE.replace(from, to));
        assert!(matches!(&error, ProfileError::Malformed { line: 2, .. }), "{to}: {error}");
    }
}

#[test]
fn figures_that_no_gpu_has_are_refused_with_key_and_range() {
    for (from, to, key, line) in [
        ("total_bytes = 25_769_803_776", "total_bytes = 24", "total_bytes", 2),
        ("total_bytes = 25_769_803_776", "total_bytes = 0", "total_bytes", 2),
        ("total_bytes = 25_769_803_776", "total_bytes = 9_000_000_000_000_000", "total_bytes", 2),
        ("reserved_bytes = 0", "reserved_bytes = 25_769_803_776", "reserved_bytes", 3),
        ("\"8.6\"", "\"86\"", "compute_capability", 5),
        ("\"8.6\"", "\"sm_86\"", "compute_capability", 5),
        ("\"8.6\"", "\"+8.6\"", "compute_capability", 5),
        ("sm_count = 82", "sm_count = 0", "sm_count", 6),
        ("936_000_000_000", "936", "memory_bandwidth_bytes_per_second", 9),
        ("\"measured\"", "\" \"", "source", 11),
    ] {
        let error = error_of(&WHOLE.replace(from, to));
        match &error {
            ProfileError::OutOfRange { key: found, line: at, .. } => {
                assert_eq!((*found, *at), (key, line), "{to}");
            }
            other => panic!("{to}: {other}"),
        }
    }
}

#[test]
fn what_is_no_profile_at_all_is_refused_without_a_panic() {
    assert!(matches!(error_of("total_bytes = [\n1,"), ProfileError::Malformed { .. }));
    assert!(matches!(error_of(""), ProfileError::MissingKey { .. }));
    let (folder, file) = written(&"#".repeat(2 << 20));
    assert!(matches!(GpuProfile::load(&file), Err(ProfileError::Unreadable { .. })));
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    assert!(matches!(GpuProfile::load(&file), Err(ProfileError::Unreadable { .. })));
    assert!(matches!(GpuProfile::load(folder.path()), Err(ProfileError::Unreadable { .. })));
    assert!(matches!(
        GpuProfile::load(Path::new("/nowhere.toml")),
        Err(ProfileError::Unreadable { .. })
    ));
}
