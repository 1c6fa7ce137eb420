//! `--gpu sim:...`

use oomph::profile::gpu::GpuProfile;
use oomph::profile::simulated::{SimulatedGpuError, SimulatedGpus};
use oomph::step::setup::GpuArch;
use oomph::units::{Bytes, ParseBytesError};

fn parse(spec: &str) -> SimulatedGpus {
    SimulatedGpus::parse(spec).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

fn error_of(spec: &str) -> SimulatedGpuError {
    SimulatedGpus::parse(spec).expect_err(spec)
}

#[test]
fn a_name_is_one_idle_card() {
    let gpus = parse("sim:h100-80gb");
    assert_eq!((gpus.profile.name.as_str(), gpus.count, gpus.free), ("h100-80gb", 1, None));
    assert_eq!(gpus.free_each(), gpus.profile.total - gpus.profile.reserved);
}

#[test]
fn a_star_counts_cards_and_free_holds_for_each() {
    let gpus = parse("sim:a100-40gb*2,free=30GiB");
    assert_eq!((gpus.profile.name.as_str(), gpus.count), ("a100-40gb", 2));
    assert_eq!((gpus.free, gpus.free_each()), (Some(Bytes::gib(30)), Bytes::gib(30)));
    assert_eq!(parse("sim:T4*1024").count, 1024);
    assert_eq!(parse(" sim:l4 * 8 , free=1.5GiB ").free, Some(Bytes::mib(1536)));
}

#[test]
fn a_size_is_a_generic_card_that_is_free_to_the_last_byte() {
    let gpus = parse("sim:24GiB*4");
    assert_eq!(gpus.profile.total, Bytes::gib(24));
    assert_eq!((gpus.free_each(), gpus.count), (Bytes::gib(24), 4));
    assert_eq!(gpus.profile.arch, GpuArch::A100);
    assert_eq!(parse("sim:16GB").profile.total, Bytes::new(16_000_000_000));
    assert_eq!(parse("sim:24GiB,free=20GiB").free_each(), Bytes::gib(20));
}

#[test]
fn the_generic_card_and_the_assumed_gpu_are_the_same_a100() {
    assert_eq!(GpuProfile::built_in("a100-40gb").unwrap().arch, GpuArch::A100);
}

#[test]
fn every_specification_prints_as_something_that_parses_back() {
    for spec in ["sim:h100-80gb", "sim:a100-40gb*8", "sim:24GiB", "sim:t4,free=9GiB", "sim:16GB*2"]
    {
        let gpus = parse(spec);
        assert_eq!(parse(&gpus.to_string()), gpus, "{spec} printed {gpus}");
    }
}

#[test]
fn an_unknown_name_gets_the_nearest_or_the_list() {
    let error = error_of("sim:h100");
    assert!(matches!(&error, SimulatedGpuError::UnknownName { nearest: Some("h100-80gb"), .. }));
    assert!(error.hint().starts_with("did you mean sim:h100-80gb? all: oomph profiles list;"));
    assert!(error_of("sim:potato").hint().starts_with("known: a10 "));
    assert_eq!(error_of("sim:potato").to_string(), "there is no built-in GPU `potato`");
}

#[test]
fn counts_that_make_no_sense_are_refused() {
    for spec in ["sim:t4*0", "sim:t4*1025", "sim:t4*-1", "sim:t4*", "sim:t4*+8", "sim:t4*1e3"] {
        assert!(matches!(error_of(spec), SimulatedGpuError::Count(_)), "{spec}");
    }
    let huge = format!("sim:t4*{}", "9".repeat(50));
    assert!(matches!(error_of(&huge), SimulatedGpuError::Count(_)));
}

#[test]
fn free_must_be_something_that_an_idle_card_has() {
    let error = error_of("sim:a100-40gb,free=80GiB");
    assert!(matches!(error, SimulatedGpuError::MoreFreeThanIdle { .. }));
    assert!(error.hint().contains("sim:a100-40gb alone has 39.4 GiB free"), "{}", error.hint());
    // Total - reserved is the most that NVML can call free.
    let card = GpuProfile::built_in("a100-40gb").unwrap();
    let idle = (card.total - card.reserved).get();
    assert_eq!(parse(&format!("sim:a100-40gb,free={idle}B")).free_each().get(), idle);
    let more = format!("sim:a100-40gb,free={}B", idle + 1);
    assert!(matches!(error_of(&more), SimulatedGpuError::MoreFreeThanIdle { .. }));
    assert!(matches!(error_of("sim:t4,free=0GiB"), SimulatedGpuError::NothingFree));
    assert!(matches!(
        error_of("sim:t4,free=8"),
        SimulatedGpuError::Size { reason: ParseBytesError::NoUnit(_), .. }
    ));
}

#[test]
fn sizes_that_no_card_has_are_refused() {
    for spec in ["sim:0GiB", "sim:512MiB", "sim:17TiB"] {
        assert!(matches!(error_of(spec), SimulatedGpuError::Total(_)), "{spec}");
    }
    for spec in ["sim:24", "sim:-24GiB", "sim:24XB", "sim:99999999999TiB"] {
        assert!(matches!(error_of(spec), SimulatedGpuError::Size { .. }), "{spec}");
    }
}

#[test]
fn what_is_no_specification_is_refused_with_the_form() {
    assert!(matches!(error_of("h100-80gb"), SimulatedGpuError::NotSimulated(_)));
    for spec in ["sim:", "sim:*8", "sim:,free=1GiB"] {
        assert!(matches!(error_of(spec), SimulatedGpuError::NoName(_)), "{spec}");
    }
    for spec in ["sim:t4,used=1GiB", "sim:t4,", "sim:t4,free=1GiB,free=2GiB"] {
        assert!(matches!(error_of(spec), SimulatedGpuError::Option(_)), "{spec}");
    }
    assert!(error_of("sim:").hint().contains("sim:NAME*8"));
}

#[test]
fn a_path_is_a_users_own_profile() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/gpus/t4.toml"), &file).unwrap();
    let gpus = parse(&format!("sim:{}*2", file.display()));
    assert_eq!((gpus.profile.name.as_str(), gpus.count), ("mine", 2));
    let error = error_of("sim:./nowhere.toml");
    assert!(error.to_string().starts_with("cannot read ./nowhere.toml"), "{error}");
}
