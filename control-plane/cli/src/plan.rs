//! `kilocard plan`: what policy documents would change, before they do.

use crate::args::{FailOn, Output, PlanArgs};
use crate::changes::id_of;
use crate::cohorts::{self, Moves};
use crate::diff::{self, PolicyDifference, Values};
use crate::documents::{self, Loaded};
use crate::failure::Failure;
use crate::in_force::{self, InForce};
use crate::outcome::Outcome;
use crate::replay::{self, Replay};
use crate::table::Table;
use kilocard_policy::Policy;
use kilocard_policy::config::{Document, RoutingPolicy, Spec};
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Runs the command.
///
/// # Errors
/// [`Failure::Trouble`]: here, 1 means that `--fail-on` found something.
pub async fn run(etcd: &EtcdArgs, args: &PlanArgs, output: Output) -> Result<Outcome, Failure> {
    plan(etcd, args, output).await.map_err(Failure::in_a_question)
}

async fn plan(etcd: &EtcdArgs, args: &PlanArgs, output: Output) -> Result<Outcome, Failure> {
    if args.fail_on.contains(&FailOn::Refused) && args.replay.is_empty() {
        return Err(Failure::Usage(
            "--fail-on refused needs captured requests: --replay LOG".to_owned(),
        ));
    }
    let loaded = documents::load(&args.files).map_err(Failure::Documents)?;
    let given: Vec<Document> = loaded.into_iter().map(|Loaded { document, .. }| document).collect();
    let old = in_force::load(etcd, &args.against).await?;
    let next = to_be(&old.documents, &given, args.only)?;
    let policy = Policy::compile("plan", &next).map_err(match args.only {
        true => Failure::Among,
        false => Failure::Together,
    })?;
    let differences = diff::between(&values(&old.documents), &values(&next));
    let moves = moves(&old.documents, &next);
    let replayed = match args.replay.is_empty() {
        true => None,
        false => Some(Replay::new(&old.policy, &policy, &next).run(&args.replay, output == Output::Text)?),
    };
    if let Some(report) = &replayed
        && !args.fail_on.is_empty()
    {
        report.ensure_sound()?;
    }
    Ok(tell(&Planned {
        args,
        old: &old,
        differences,
        moves,
        replayed: replayed.as_ref(),
    }))
}

/// The policies as they would be after `apply`, or the given ones alone; what is remembered of the cohorts is carried over.
fn to_be(old: &[Document], given: &[Document], only: bool) -> Result<Vec<Document>, Failure> {
    let stored: BTreeMap<PolicyId, &Document> = old.iter().map(|document| (id_of(document), document)).collect();
    let mut next: BTreeMap<PolicyId, Document> = BTreeMap::new();
    if !only {
        next.extend(stored.iter().map(|(id, document)| (id.clone(), (*document).clone())));
    }
    for document in given {
        let id = id_of(document);
        let document = match stored.get(&id) {
            Some(stored) => cohorts::remembering(document, stored).map_err(Failure::Together)?,
            None => document.clone(),
        };
        next.insert(id, document);
    }
    Ok(next.into_values().collect())
}

fn values(documents: &[Document]) -> Values {
    let value = |document: &Document| Some((id_of(document), serde_json::to_value(document).ok()?));
    documents.iter().filter_map(value).collect()
}

/// Who moves, by model, for the models that both have.
fn moves(old: &[Document], new: &[Document]) -> Vec<(String, Vec<Moves>)> {
    let new = routed(new);
    let both = routed(old)
        .into_iter()
        .filter_map(|(model, old)| Some((model, cohorts::moves_of_model(old, new.get(model)?))));
    both.filter(|(_, moves)| !moves.is_empty())
        .map(|(model, moves)| (model.to_owned(), moves))
        .collect()
}

fn routed(documents: &[Document]) -> BTreeMap<&str, &RoutingPolicy> {
    let routing = documents.iter().filter_map(|document| match document.spec() {
        Spec::Routing(routing) => Some((routing.model.as_str(), routing)),
        _ => None,
    });
    routing.collect()
}

struct Planned<'a> {
    args: &'a PlanArgs,
    old: &'a InForce,
    differences: Vec<PolicyDifference>,
    moves: Vec<(String, Vec<Moves>)>,
    replayed: Option<&'a replay::Report>,
}

fn tell(planned: &Planned<'_>) -> Outcome {
    let Planned {
        args,
        old,
        differences,
        moves,
        replayed,
    } = planned;
    let files = args.files.join(", ");
    let to = if args.only {
        files
    } else {
        format!("the same with {files}")
    };
    let mut text = format!("from  {}\nto    {to}\n\n", old.source);
    text.push_str(&match differences.is_empty() {
        true => "no policy differs\n".to_owned(),
        false => diff::describe(differences),
    });
    let _ = write!(text, "\n{}", describe_moves(moves));
    if let Some(report) = replayed {
        let _ = write!(text, "\n{report}");
    }
    let moves_json = |(model, moves): &(String, Vec<Moves>)| json!({"model": model, "splits": moves.iter().map(Moves::to_json).collect::<Value>()});
    let data = json!({
        "from": old.source, "to": to, "policies": diff::to_json(differences),
        "moves": moves.iter().map(moves_json).collect::<Value>(),
        "replay": replayed.map(replay::Report::to_json),
    });
    let found = |what: &FailOn| match what {
        FailOn::Refused => replayed.is_some_and(|report| report.newly_refused() > 0),
        FailOn::Moved => !moves.is_empty() || replayed.is_some_and(|report| report.moved() > 0),
    };
    Outcome {
        success: !args.fail_on.iter().any(found),
        is_written: false,
        ..Outcome::new(text, data).with_warnings(old.warnings.clone())
    }
}

fn describe_moves(moves: &[(String, Vec<Moves>)]) -> String {
    if moves.is_empty() {
        return "no user gets another version of a model\n".to_owned();
    }
    let mut table = Table::new(&["MODEL", "RULE", "FROM", "TO", "OF ALL USERS"]);
    for (model, moves) in moves {
        for split in moves {
            for shift in &split.shifts {
                let drawn = if split.redrawn { " (drawn anew)" } else { "" };
                let percent = format!("{}%{drawn}", cohorts::round(shift.percent));
                let rule = split.rule.as_deref().unwrap_or("-");
                table.row([model.as_str(), rule, &shift.from, &shift.to, &percent]);
            }
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
