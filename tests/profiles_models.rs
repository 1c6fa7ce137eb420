//! The built-in model profiles, read as a `config.json` is.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use oomph::ingest::config_json;
use oomph::model::config::{Family, ModelConfig};
use oomph::profile::file::ProfileError;
use oomph::profile::model::{self, ModelProfile};

/// Published parameter counts, written a second time so that a slip in a file shows.
const PUBLISHED: [(&str, u64); 63] = [
    ("llama-3.2-1b", 1_235_814_400),
    ("llama-3.2-3b", 3_212_749_824),
    ("llama-3.1-8b", 8_030_261_248),
    ("llama-2-7b", 6_738_415_616),
    ("tinyllama-1.1b", 1_100_048_384),
    ("mistral-7b-v0.1", 7_241_732_096),
    ("mistral-7b-v0.3", 7_248_023_552),
    ("qwen2.5-0.5b", 494_032_768),
    ("qwen2.5-1.5b", 1_543_714_304),
    ("qwen2.5-3b", 3_085_938_688),
    ("qwen2.5-7b", 7_615_616_512),
    ("llama-2-70b", 68_976_648_192),
    ("codellama-34b-hf", 33_743_970_304),
    ("smollm2-135m", 134_515_008),
    ("smollm2-1.7b", 1_711_376_384),
    ("mistral-nemo-base-2407", 12_247_782_400),
    ("mistral-small-24b-base-2501", 23_572_403_200),
    ("mistral-large-instruct-2407", 122_610_069_504),
    ("mixtral-8x22b-instruct-v0.1", 140_630_071_296),
    ("phi-4-mini-instruct", 3_836_021_760),
    ("pythia-14m", 14_067_712),
    ("t5-11b", 11_307_321_344),
    ("gpt2", 124_439_808),
    ("gpt2-medium", 354_823_168),
    ("gpt2-large", 774_030_080),
    ("gpt2-xl", 1_557_611_200),
    ("distilgpt2", 81_912_576),
    ("qwen3-0.6b", 596_049_920),
    ("qwen3-8b", 8_190_735_360),
    ("gemma-2-2b", 2_614_341_888),
    ("gemma-3-1b-pt", 999_885_952),
    ("phi-3-mini-4k-instruct", 3_821_079_552),
    ("phi-4", 14_659_507_200),
    ("pythia-410m", 405_334_016),
    ("pythia-12b", 11_846_072_320),
    ("opt-125m", 125_239_296),
    ("opt-350m", 331_196_416),
    ("olmo-2-0425-1b", 1_484_916_736),
    ("olmo-2-1124-7b", 7_298_617_344),
    ("starcoder2-3b", 3_030_371_328),
    ("starcoder2-15b", 15_957_889_024),
    ("mixtral-8x7b-v0.1", 46_702_792_704),
    ("qwen3-30b-a3b", 30_532_122_624),
    ("bert-base-uncased", 109_514_298),
    ("bert-large-uncased", 335_174_458),
    ("roberta-base", 124_697_433),
    ("roberta-large", 355_412_057),
    ("xlm-roberta-base", 278_295_186),
    ("distilbert-base-uncased", 66_985_530),
    ("t5-small", 60_506_624),
    ("t5-base", 222_903_552),
    ("t5-3b", 2_851_598_336),
    ("bart-base", 139_420_416),
    ("bart-large", 406_291_456),
    ("bart-large-cnn", 406_290_432),
    ("whisper-tiny", 37_760_640),
    ("convnext-tiny-224", 28_589_128),
    ("swin-tiny-patch4-window7-224", 28_288_354),
    ("swin-base-patch4-window7-224", 87_768_224),
    ("modernbert-base", 149_655_232),
    ("deberta-v3-base", 184_551_780),
    ("whisper-small", 241_734_912),
    ("whisper-large-v3", 1_543_490_560),
];

fn config_of(name: &str) -> ModelConfig {
    config_json::from_map(&ModelProfile::built_in(name).unwrap().config).unwrap().config
}

#[test]
fn published_parameter_counts_follow_from_the_sizes() {
    for (name, parameters) in PUBLISHED {
        assert_eq!(config_of(name).parameter_count(), parameters, "{name}");
    }
}

#[test]
fn every_built_in_model_reads_without_a_guess_and_counts_as_its_file_says() {
    for name in model::names() {
        let profile = ModelProfile::built_in(name).unwrap();
        let read = config_json::from_map(&profile.config).unwrap();
        assert_eq!(read.config.parameter_count(), profile.parameters, "{name}");
        assert_eq!(read.notes, Vec::<String>::new(), "{name} leaves something to a default");
        assert!(profile.source.contains("config") && profile.source.contains("parameters"));
        assert_eq!(profile.hub_id.split('/').count(), 2, "{name}");
    }
}

#[test]
fn names_end_as_hub_names_end_in_lower_case() {
    for name in model::names() {
        let hub = ModelProfile::built_in(name).unwrap().hub_id.to_lowercase();
        let same = hub.split_once('/').is_some_and(|(_, end)| end == name);
        // Hub names with a suffix of the format or the tuning, which nobody types.
        let shortened = [
            "llama-2-7b",
            "llama-2-13b",
            "llama-2-70b",
            "llama-3-8b",
            "llama-3-70b",
            "tinyllama-1.1b",
        ];
        assert!(same || shortened.contains(&name) && hub.contains(name), "{name} is {hub}");
    }
}

#[test]
fn a_hub_id_stands_for_one_profile() {
    let profiles: Vec<_> = model::names().map(|n| ModelProfile::built_in(n).unwrap()).collect();
    let ids: Vec<String> = profiles
        .iter()
        .flat_map(|p| p.same_memory.iter().chain([&p.hub_id]))
        .map(|id| id.to_lowercase())
        .collect();
    assert!(ids.iter().all(|id| id.split('/').count() == 2));
    // By the part behind the slash alone, too: that will do on the command line.
    let mut ends: Vec<&str> = ids.iter().filter_map(|id| id.split('/').nth(1)).collect();
    ends.sort_unstable();
    let twice = ends.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}

#[test]
fn a_key_that_the_published_file_sets_to_null_is_not_its_default() {
    // Mistral's default window is 4096; v0.3 has none.
    let window = |name| match config_of(name) {
        ModelConfig::Decoder(c) => (c.family, c.window.map(|window| window.size)),
        other => panic!("{other:?}"),
    };
    assert_eq!(window("mistral-7b-v0.1"), (Family::Mistral, Some(4096)));
    assert_eq!(window("mistral-7b-v0.3"), (Family::Mistral, None));
}

#[test]
fn a_wrong_name_gets_the_nearest() {
    assert_eq!(ModelProfile::built_in("Llama-3.2-1B").unwrap().name, "llama-3.2-1b");
    let error = ModelProfile::built_in("llama3.2-1b").unwrap_err();
    assert!(matches!(error, ProfileError::UnknownName { nearest: Some("llama-3.2-1b"), .. }));
}
