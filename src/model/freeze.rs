//! Frozen parameters: a transformation of a finished graph, as a loop over `named_parameters()` that
//! takes `requires_grad` away.

use smallvec::SmallVec;

use crate::model::graph::{Graph, Op, Statement, ValueId};

/// Patterns of parameters' names: `*` is any text, `?` any character, `[ab]` one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    patterns: Vec<glob::Pattern>,
}

impl Frozen {
    /// Whether a parameter of that name is frozen.
    pub fn holds(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns the first pattern that none of the names matches.
    pub fn idle_pattern(&self, names: &[String]) -> Option<&str> {
        let matches_none =
            |pattern: &&glob::Pattern| !names.iter().any(|name| pattern.matches(name));
        self.patterns.iter().find(matches_none).map(glob::Pattern::as_str)
    }
}

impl std::str::FromStr for Frozen {
    type Err = String;

    /// Reads patterns with commas between them.
    fn from_str(text: &str) -> Result<Frozen, String> {
        let patterns: Result<Vec<_>, String> = text
            .split(',')
            .map(|part| match part.trim() {
                "" => Err("a pattern of parameters' names is missing, such as *embed*".to_owned()),
                part => {
                    glob::Pattern::new(part).map_err(|error| format!("`{part}`: {}", error.msg))
                }
            })
            .collect();
        Ok(Frozen { patterns: patterns? })
    }
}

impl std::fmt::Display for Frozen {
    /// As the command line spells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let patterns: Vec<&str> = self.patterns.iter().map(glob::Pattern::as_str).collect();
        f.write_str(&patterns.join(","))
    }
}

/// Freezes the parameters of a graph whose names match.
pub fn freeze(graph: &mut Graph, frozen: &Frozen) {
    let names = graph.parameter_names();
    let mut names = names.iter();
    let (weights, trained) = (&mut graph.weights, &mut graph.trained);
    trained.retain(|&index| {
        let freezes = names.next().is_some_and(|name| frozen.holds(name));
        weights[index as usize].trained = !freezes;
        !freezes
    });
}

/// Asks for a gradient of what the embeddings return, as `enable_input_require_grads` of transformers 5 does.
pub fn require_input_gradient(graph: &mut Graph) {
    // From the last on, so that where the others end stays where it is.
    for (embedded, leave) in graph.embedded(true).into_iter().rev() {
        require_gradient(graph, embedded, leave);
    }
}

fn require_gradient(graph: &mut Graph, embedded: ValueId, leave: usize) {
    let frozen = ValueId(graph.value_count);
    graph.value_count += 1;
    for statement in &mut graph.statements[..leave] {
        if let Statement::Run { outputs, .. } = statement
            && outputs[0] == embedded
        {
            outputs[0] = frozen;
        }
    }
    let asks = Statement::Run {
        op: Op::RequireGrad,
        inputs: SmallVec::from_iter([frozen]),
        outputs: SmallVec::from_iter([embedded]),
    };
    let added = [asks, Statement::Drop(frozen)];
    let moved = added.len();
    graph.statements.splice(leave..leave, added);
    for layer in graph.layers.iter_mut().filter(|layer| layer.statements.start > leave) {
        layer.statements = layer.statements.start + moved..layer.statements.end + moved;
    }
}

/// Freezes the parameters of a graph that match, where each of its weights has the name given.
pub fn freeze_named(graph: &mut Graph, names: &[String], frozen: &Frozen) {
    let weights = &mut graph.weights;
    graph.trained.retain(|&index| {
        let freezes = frozen.holds(&names[index as usize]);
        weights[index as usize].trained &= !freezes;
        !freezes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_of_whole_names() {
        let frozen = "model.layers.[01].*, *norm.weight".parse::<Frozen>().expect("valid");
        assert!(frozen.holds("model.layers.0.mlp.up_proj.weight"));
        assert!(frozen.holds("model.norm.weight"));
        assert!(!frozen.holds("model.layers.10.mlp.up_proj.weight"));
        assert!(!frozen.holds("lm_head.weight"));
        let names = ["model.norm.weight".to_owned()];
        assert_eq!(frozen.idle_pattern(&names), Some("model.layers.[01].*"));
        assert_eq!(frozen.to_string(), "model.layers.[01].*,*norm.weight");
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        assert!("a[".parse::<Frozen>().is_err_and(|error| error.contains("`a[`")));
        assert!("a,,b".parse::<Frozen>().is_err_and(|error| error.contains("missing")));
    }
}
