//! `oomph advise`: what it finds fits, with nothing to spare, and is found by looking at everything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;

use std::collections::BTreeMap;
use std::process::Output;

use answers::{json, oomph, oomph_in};
use clap::Parser;
use oomph::cli::advising::Bench;
use oomph::cli::args::{Cli, Command as Asked};
use oomph::cli::error::CliError;
use oomph::cli::fits::{OnDevice, most_at_once};
use oomph::cli::job::{Job, WithoutGpu};
use oomph::cli::setup::ModelArgs;
use oomph::memory::fit::taken_of;
use oomph::memory::trace::Category;
use oomph::parallel::each;
use oomph::plan::advise::lattice::{Lattice, Point};
use oomph::plan::advise::search::search;
use oomph::step;
use oomph::step::setup::Setup;
use oomph::units::{AccumulationSteps, Bytes, MicroBatch};
use serde_json::Value;
use tempfile::TempDir;

fn run(words: &[&str]) -> Output {
    oomph_in(TempDir::new().unwrap().path(), words)
}

/// Runs a command of an answer, which is written for a shell.
fn pasted(suggestion: &Value) -> Output {
    let command = suggestion["command"].as_str().unwrap().strip_prefix("oomph ").unwrap();
    run(&[&words_of(command)[..], &["--json"]].concat())
}

/// Returns the job of a command line.
fn job(words: &[&str]) -> Job {
    let model: ModelArgs = match Cli::try_parse_from(words).unwrap().command {
        Asked::Advise(args) => args.model,
        Asked::Estimate(args) => args.model,
        Asked::Plan(args) => args.model,
        _ => unreachable!(),
    };
    Job::prepare(&model, WithoutGpu::AskDriver).unwrap()
}

/// Whether the step of a command line runs on its GPU and on all that are larger, by the estimator.
fn fits(words: &[&str]) -> bool {
    let mut job = job(words);
    let target = job.settings.effective_batch().unwrap();
    let device = OnDevice::new(&job, job.gpus.first()).unwrap();
    let micro_batch = job.settings.micro_batch.unwrap_or(MicroBatch::ONE);
    let solved = target.map(|target| target.get() / micro_batch.get() / job.data_parallel().get());
    let solved = solved.and_then(AccumulationSteps::new);
    let steps = job.settings.accumulation.or(solved).unwrap_or(AccumulationSteps::ONE);
    let trace = device.trace(micro_batch, steps).unwrap();
    taken_of(&trace, device.capacity_bytes()).is_some()
}

/// Takes a command of an answer apart, as a shell does.
fn words_of(command: &str) -> Vec<&str> {
    command.split(' ').map(|word| word.trim_matches('\'')).collect()
}

fn flags(suggestion: &Value) -> Vec<String> {
    let changes = suggestion["changes"].as_array().unwrap();
    changes.iter().map(|change| change["flags"].as_str().unwrap().to_owned()).collect()
}

/// The top five are each put to the estimator, with all of their changes and with one left out.
#[test]
fn llama_8b_on_a_card_of_24_gib_gets_five_ways_to_fit_and_each_is_verified() {
    let asked = "llama-3.1-8b --gpu sim:24GiB";
    let output = oomph(&format!("advise {asked} --json"));
    assert_eq!(output.status.code(), Some(3), "what was asked for does not fit");
    let advice = json(&output);
    assert_eq!(advice["schema"], "oomph.advise/1");
    assert_eq!(advice["fits"], false);
    assert_eq!(advice["setups"]["all"], 2688);
    let suggestions = advice["to_fit"].as_array().unwrap();
    assert!(suggestions.len() >= 5, "{advice}");
    let capacity = advice["capacity_bytes"].as_u64().unwrap();
    for suggestion in &suggestions[..5] {
        let estimated = pasted(suggestion);
        assert_eq!(estimated.status.code(), Some(0), "{suggestion}");
        let estimate = json(&estimated);
        assert_eq!(estimate["fits"], true, "{suggestion}");
        let (taken, reserved) = (&suggestion["taken_bytes"], &estimate["peak_reserved_bytes"]);
        let is_tight = reserved.as_u64().unwrap() > capacity;
        assert!(taken == reserved || is_tight, "{suggestion}: {reserved}");
        assert!(taken.as_u64().unwrap() <= capacity, "{suggestion}");
        let flags = flags(suggestion);
        for left_out in &flags {
            // Weights in fewer bits are only there with adapters on them.
            if left_out.starts_with("--lora") && flags.iter().any(|f| f.starts_with("--quantize")) {
                continue;
            }
            let rest: Vec<&str> =
                flags.iter().filter(|flag| *flag != left_out).map(String::as_str).collect();
            let without = format!("oomph estimate {asked} {}", rest.join(" "));
            assert!(!fits(&words_of(without.trim_end())), "{suggestion} without {left_out}");
        }
    }
    let smallest = advice["smallest_card"]["gpu"].as_str().unwrap();
    let on_card = oomph(&format!("estimate llama-3.1-8b --gpu {smallest}"));
    assert_eq!(on_card.status.code(), Some(0), "{smallest}");
}

const TOY: &str = r#"{"model_type": "llama", "hidden_size": 128, "intermediate_size": 352,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 4000,
    "max_position_embeddings": 1024}"#;

/// Replays every point on each capacity; those that fit while none milder does are what a search must
/// find.
fn brute_force(lattice: &Lattice, job: &Job, capacities: &[Bytes]) -> Vec<Vec<Point>> {
    let points = lattice.points();
    // A trace is the same whatever replays it.
    let mut steps: BTreeMap<Point, Vec<Point>> = BTreeMap::new();
    for point in &points {
        steps.entry(Lattice::with_any_allocator(point)).or_default().push(*point);
    }
    let steps: Vec<(Point, Vec<Point>)> = steps.into_iter().collect();
    let fit = each(&steps, |(step, points)| {
        let way = lattice.way(step);
        let trace = |setup: &Setup| step::trace_tuned(&job.model.config, &way.tuning, setup);
        let Ok(mut whole) = trace(&way.setup) else { return Vec::new() };
        let (micro_batch, accumulation) = (MicroBatch::ONE, AccumulationSteps::ONE);
        let buckets = match job.data_parallel().get() {
            1 => Bytes::ZERO,
            _ => {
                let trace = trace(&Setup { micro_batch, accumulation, ..way.setup }).unwrap();
                most_at_once(&trace, Category::Gradients)
            }
        };
        let mut fit = Vec::new();
        for point in points {
            whole.allocator = lattice.way(point).setup.allocator_mode();
            let fits = |&all: &Bytes| taken_of(&whole, all.saturating_sub(buckets)).is_some();
            fit.push((*point, capacities.iter().map(fits).collect::<Vec<bool>>()));
        }
        fit
    });
    let fit: BTreeMap<Point, Vec<bool>> = fit.into_iter().flatten().collect();
    let on = |at: usize| {
        let fits = |point: &&Point| fit.get(*point).is_some_and(|fit| fit[at]);
        let all: Vec<Point> = points.iter().filter(fits).copied().collect();
        let least = |point: &&Point| {
            !all.iter().any(|other| other != *point && lattice.is_milder(other, point))
        };
        all.iter().filter(least).copied().collect()
    };
    (0..capacities.len()).map(on).collect()
}

#[test]
fn the_search_finds_what_looking_at_everything_finds() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, TOY).unwrap();
    let model = path.to_str().unwrap();
    let mut ruled_out = 0;
    for (rest, capacities) in [
        ("--precision bf16 --micro-batch 4", [45, 100]),
        ("--precision bf16 --micro-batch 4 --accumulation 2", [50, 100]),
        ("--precision fp32 --optimizer adamw-fused --world-size 2", [60, 130]),
    ] {
        let line = ["oomph", "advise", model, "--capacity", "1GiB", "--seq-len", "600"];
        let job = job(&line.into_iter().chain(rest.split(' ')).collect::<Vec<_>>());
        let device = OnDevice::new(&job, None).unwrap();
        let micro_batch = job.settings.micro_batch.unwrap_or(MicroBatch::ONE);
        let steps = job.settings.accumulation.unwrap_or(AccumulationSteps::ONE);
        let base = Bench::new(&device, (micro_batch, steps));
        let lattice = base.lattice();
        let capacities = capacities.map(Bytes::mib);
        let wanted = brute_force(&lattice, &job, &capacities);
        for (capacity, wanted) in capacities.into_iter().zip(wanted) {
            let bench = Bench::with(&job, base.base.clone(), capacity);
            let found = search(&lattice, |way| Ok::<_, CliError>(bench.look(way))).unwrap();
            let fitting: Vec<Point> = found.fitting.iter().map(|(point, _)| *point).collect();
            assert_eq!(fitting, wanted, "{rest} on {capacity}");
            assert!(!wanted.is_empty(), "{rest} on {capacity}: nothing to find");
            let tally = found.tally;
            let sum = tally.fit + tally.milder_fits + tally.too_much + tally.ruled_out;
            assert_eq!(sum + tally.refused, tally.setups, "{tally:?}");
            ruled_out += tally.ruled_out;
        }
    }
    assert!(ruled_out > 1_500, "{ruled_out}");
}

#[test]
fn room_that_is_left_is_offered_and_each_offer_fits() {
    let line = "gpt2 --checkpointing full --optimizer adamw-8bit --micro-batch 4 --accumulation 8 \
                --seq-len 256 --gpu sim:l4 --json";
    let output = oomph(&format!("advise {line}"));
    assert_eq!(output.status.code(), Some(0));
    let advice = json(&output);
    assert_eq!(advice["to_fit"], Value::Array(Vec::new()));
    let offers = advice["room_for"].as_array().unwrap();
    let offered: Vec<String> = offers.iter().flat_map(flags).collect();
    assert!(offered.contains(&"--micro-batch 32 --accumulation 1".to_owned()), "{offered:?}");
    assert!(offered.contains(&"--checkpointing none".to_owned()), "{offered:?}");
    assert!(offered.contains(&"--optimizer adamw-fused".to_owned()), "{offered:?}");
    for offer in offers {
        assert_eq!(json(&pasted(offer))["fits"], true, "{offer}");
        let percent = offer["compute_percent"].as_f64().unwrap();
        let recomputes_less = flags(offer).iter().any(|flag| flag.starts_with("--checkpointing"));
        assert_eq!(percent < -5.0, recomputes_less, "{offer}");
    }
    assert!(advice["largest_micro_batch"].as_u64().unwrap() >= 32);
}

#[test]
fn without_micro_steps_to_save_the_room_is_for_a_larger_batch() {
    let advice = json(&oomph("advise gpt2 --seq-len 256 --micro-batch 8 --gpu sim:l4 --json"));
    let offer = &advice["room_for"][0];
    let largest = advice["largest_micro_batch"].as_u64().unwrap();
    assert_eq!(flags(offer), [format!("--micro-batch {largest}")]);
    assert_eq!(offer["numbers"], "another_training", "the effective batch grows");
    assert_eq!(json(&pasted(offer))["fits"], true, "{offer}");
}

#[test]
fn few_ways_to_fit_are_filled_up_with_more_than_is_needed() {
    let advice =
        json(&oomph("advise gpt2 --seq-len 512 --optimizer sgd --lora r=8 --capacity 1GiB --json"));
    let standing: Vec<&str> = advice["to_fit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["standing"].as_str().unwrap())
        .collect();
    assert!(standing.len() >= 5 && standing.contains(&"more_than_needed"), "{standing:?}");
}

/// With all of them: what takes the place of what does not fit, alone or not, what room is left for,
/// and what every built-in card needs.
#[test]
fn each_command_can_be_run_and_fits_where_it_is_said_to() {
    let mut run = 0;
    for line in [
        "gpt2 --gpu sim:l4 --micro-batch 64 --all-gpus",
        "gpt2 --gpu sim:l4*2 --parallel ddp --micro-batch 32 --effective-batch 256 --seq-len 512",
        "llama-3.2-1b --gpu sim:a10 --lora r=8 --quantize nf4 --checkpointing full --seq-len 512",
        "resnet-50 --gpu sim:t4 --micro-batch 512",
    ] {
        let advice = json(&oomph(&format!("advise {line} --json")));
        let mut all: Vec<&Value> = Vec::new();
        for part in ["to_fit", "one_change", "room_for"] {
            all.extend(advice[part].as_array().unwrap());
        }
        for card in advice["cards"].as_array().unwrap() {
            all.extend(Some(&card["cheapest"]).filter(|cheapest| cheapest.is_object()));
            if card["runs"] == true {
                let gpu = card["gpu"].as_str().unwrap();
                let as_it_is = line.replace("sim:l4", gpu).replace(" --all-gpus", "");
                let command = format!("oomph estimate {as_it_is}");
                assert_eq!(fits(&words_of(&command)), card["fits"], "{card}");
                assert_eq!(card["largest_micro_batch"].is_u64(), card["fits"], "{card}");
            }
        }
        for one in all {
            // What is to be left out was not always typed: then there is nothing to paste.
            let Some(command) = one["command"].as_str() else { continue };
            assert_eq!(fits(&words_of(command)), one["fits"], "{command}");
            run += 1;
        }
    }
    assert!(run > 60, "{run}");
}

#[test]
fn where_nothing_would_fit_the_nearest_is_named() {
    let output = oomph("advise gpt2 --capacity 100MiB --json");
    assert_eq!(output.status.code(), Some(3));
    let advice = json(&output);
    assert_eq!(advice["to_fit"], Value::Array(Vec::new()));
    let nearest = &advice["nearest"];
    assert_eq!(nearest["fits"], false);
    assert!(nearest["taken_bytes"].as_u64() < advice["taken_bytes"].as_u64());
    assert!(advice["smallest_card"]["gpu"].is_string());
}

#[test]
fn an_effective_batch_is_reached_by_what_is_advised() {
    let output = oomph("advise gpt2 --micro-batch 16 --effective-batch 64 --gpu sim:6GiB --json");
    let advice = json(&output);
    assert_eq!(advice["accumulation_steps"], 4);
    let first = &advice["to_fit"][0];
    let plan = json(&pasted(first));
    assert_eq!((&plan["schema"], &plan["fits"]), (&"oomph.plan/1".into(), &true.into()), "{first}");
    assert_eq!(plan["effective_batch"], 64);
    assert_eq!(plan["exact"], true);
}

#[test]
fn the_table_reads_on_80_columns_and_names_what_is_simulated() {
    let output = oomph("advise gpt2 --micro-batch 16 --gpu sim:6GiB");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for part in ["(simulated)", "does not fit", "One change at a time", "oomph estimate gpt2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_row_of_a_card_is_judged_as_its_command_is() {
    // Each command is run by itself: in the precision of its card, on as many devices as were asked for.
    for (gpu, times) in [("sim:t4", ""), ("sim:l4*2", "*2")] {
        let advice =
            json(&oomph(&format!("advise gpt2 --micro-batch 16 --all-gpus --gpu {gpu} --json")));
        for (card, precision) in [("sim:t4", "amp-fp16"), ("sim:l4", "amp-bf16")] {
            let rows = advice["cards"].as_array().unwrap();
            let row = rows.iter().find(|row| row["gpu"] == card).unwrap();
            assert_eq!(row["precision"], precision, "{gpu}: {row:#}");
            let command = row["cheapest"]["command"].as_str().unwrap();
            let named = words_of(command).into_iter().find(|word| word.starts_with("sim:"));
            assert_eq!(named, Some(format!("{card}{times}").as_str()), "{command}");
            let estimate = json(&pasted(&row["cheapest"]));
            assert_eq!(estimate["setup"]["precision"], precision, "{command}");
            assert_eq!(estimate["fits"], true, "{command}");
        }
    }
}

#[test]
fn where_nothing_fits_the_command_that_advises_is_printed_with_the_same_setup() {
    let setup = "llama-3.2-1b --seq-len 512 --checkpointing full --optimizer sgd --gpu sim:2GiB";
    let advise = format!("oomph advise {setup}");
    for command in [
        "plan SETUP --exact --probe never",
        "--color never estimate SETUP --by=layer",
        "probe SETUP --shared",
    ] {
        let output = oomph(&command.replace("SETUP", setup));
        assert_eq!(output.status.code(), Some(3), "{command}");
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, pasted) = text.split_once("try     several changes together:\n").unwrap();
        let joined = pasted.replace("\\\n", "");
        let line = joined.lines().next().unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), advise, "{command}");
    }
    let hints = json(&oomph(&format!("probe {setup} --json")))["hints"].clone();
    assert_eq!(hints[0], format!("several changes together: {advise}"));
    let advised = run(&words_of(&advise.replace("oomph ", "")));
    assert_eq!(advised.status.code(), Some(3));
    assert!(!String::from_utf8(advised.stdout).unwrap().is_empty());
}

#[test]
fn a_plan_that_does_not_fit_is_not_emitted_and_what_fits_is_the_hint() {
    let error = oomph("plan gpt2 --micro-batch 64 --gpu sim:t4 --emit hf-args");
    assert_eq!(error.status.code(), Some(3));
    let text = String::from_utf8(error.stderr).unwrap();
    let hint = text.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap();
    assert!(hint.ends_with(", fits"), "{text}");
}
