//! The shapes of injections, over tokens.

use super::token::Token::{self, *};

/// Whether one of the shapes is there. Every shape looks at a few tokens after where it begins, or at a run of brackets
/// that no other one looks at, so all together are linear.
pub(super) fn is_in(tokens: &[Token]) -> bool {
    let quotes = tokens.iter().filter(|token| **token == Quote).count();
    let mut seen_quotes = 0;
    let mut before = End;
    let mut rest = tokens;
    while let [token, after @ ..] = rest {
        seen_quotes += usize::from(*token == Quote);
        let found = match token {
            Logic => is_condition(before, after),
            Union => is_union(after),
            Select => matches!(before, Open | Logic | Comma | Compare) && is_subquery(after),
            // The quote that is left open is the one that broke out.
            Quote => is_cut_off(after, quotes % 2 == 1 && seen_quotes == quotes) || is_probe(after),
            Waitfor => matches!(after, [Word, Quote, ..]),
            Into => matches!(after, [File, Quote, ..]),
            Suspect => matches!(after, [Open | Quote, ..]) || matches!(before, Exec | Dot),
            Catalogue => matches!(after, [Dot, Word | Object, ..]),
            Function => matches!(before, Logic | Quote) && matches!(after, [Open, Number, Close | Comma, ..]),
            _ => false,
        };
        // A statement stands at the beginning, after another one, or after what was broken out of.
        let begins = matches!(before, End | Semicolon | Quote | Close);
        if found || (begins && is_statement(rest, before)) {
            return true;
        }
        before = *token;
        rest = after;
    }
    false
}

/// What comes after `or`: a comparison of constants, or, right after a quote, of anything; a constant; a function.
fn is_condition(before: Token, after: &[Token]) -> bool {
    let operand = skip(after, &[Not, Open]);
    if let [Number, Compare, Number, ..] = operand {
        return true;
    }
    if let [Quote, after @ ..] = operand
        && let [Quote, Compare | Like, Quote | Number, ..] = skip_value(after)
    {
        return true;
    }
    if before == Number {
        return matches!(operand, [True, End | Comment | Hash, ..]);
    }
    let breaks_out = matches!(before, Quote | Close);
    let is_comparison = matches!(
        operand,
        [
            Word | Number | Object | Null,
            Compare,
            Word | Number | Quote | Open | At | Null,
            ..
        ] | [Word | Object, Like, Quote, ..]
            | [True | Number, End | Comment | Hash | Close | Semicolon, ..]
            | [Function | Suspect, Open, ..]
    );
    breaks_out && is_comparison
}

fn is_union(after: &[Token]) -> bool {
    match skip(after, &[All, Open]) {
        [Select, list @ ..] => is_select_list(list),
        _ => false,
    }
}

/// What only a query selects; "select one from the list" is prose.
fn is_select_list(list: &[Token]) -> bool {
    let list = skip(list, &[All]);
    is_column(list)
        || matches!(
            list,
            [Star | Null | At | Number | Quote | Open, ..] | [Word | Object, Comma | From, ..]
        )
}

fn is_column(list: &[Token]) -> bool {
    matches!(list, [Function | Suspect | Word, Open, ..] | [At, Word | Function, ..])
}

fn is_subquery(list: &[Token]) -> bool {
    let list = skip(list, &[All]);
    let is_query = matches!(
        list,
        [Star, From, ..]
            | [Null | Number, Comma | From | Close, ..]
            | [Word | Object, From, Word | Object | Catalogue, Close | Where | Dot, ..]
    );
    is_column(list) || is_query
}

/// A quote, and a comment that cuts off what the statement had after it.
fn is_cut_off(after: &[Token], is_open: bool) -> bool {
    let rest = skip(after, &[Close]);
    let rest = rest.strip_prefix(&[Semicolon]).unwrap_or(rest);
    match rest {
        [Comment, rest @ ..] => is_open && rest.len() <= 3,
        [Hash, End] => is_open,
        _ => false,
    }
}

/// A quote, and a clause that tells how many columns there are.
fn is_probe(after: &[Token]) -> bool {
    let rest = skip(after, &[Close]);
    matches!(
        rest,
        [Order, By, Number | Word, End | Comment | Hash, ..] | [Having, Number | Quote, Compare | Number, ..]
    )
}

fn is_statement(tokens: &[Token], before: Token) -> bool {
    let ends = |rest: &[Token]| matches!(rest, [End | Semicolon | Comment | Hash | Quote | Comma | Close, ..]);
    match tokens {
        [Select, list @ ..] => is_query(list),
        [Drop, Object, name @ ..] | [Truncate, Object, name @ ..] => {
            // `if exists`
            let name = name.strip_prefix(&[Function, Function]).unwrap_or(name);
            is_name(name) && (before == Quote || name.get(1..).is_some_and(ends))
        }
        [Delete, From, name @ ..] => {
            is_name(name)
                && name
                    .get(1..)
                    .is_some_and(|rest| ends(rest) || rest.starts_with(&[Where]))
        }
        [Insert, Into, name @ ..] => is_name(name) && matches!(name, [_, Open | Values | Select | Set, ..]),
        [Update, name @ ..] => is_name(name) && matches!(name, [_, Set, Word | Object, Compare, ..]),
        [Alter, Object, name @ ..] => is_name(name) && matches!(name, [_, Drop | Set, ..] | [_, Word, Word, End, ..]),
        [Create, Object, name @ ..] => is_name(name) && matches!(name, [_, Open, ..]),
        [Exec, Suspect, ..] | [Exec, Open, ..] | [Declare, At, Word, ..] => true,
        [Exec, Word, Dot, ..] => true,
        [Shutdown, rest @ ..] => before == Semicolon && ends(rest),
        _ => false,
    }
}

/// What follows `select` in a statement of its own.
fn is_query(list: &[Token]) -> bool {
    let list = skip(list, &[All]);
    let is_end = |token: &Token| matches!(token, End | Semicolon | Comment | Hash | Close | Quote);
    match list {
        [Star, From, ..] | [At, Word | Function, ..] | [Null, Comma | From, ..] | [Number, Comma | From, ..] => true,
        [Function | Suspect, Open, ..] => true,
        [Word | Object, Comma, Word | Object, From, Word | Object, end, ..] => is_end(end) || *end == Where,
        [Word | Object, From, Word | Object, Where, ..] => true,
        [Number, end, ..] => is_end(end),
        _ => false,
    }
}

fn is_name(tokens: &[Token]) -> bool {
    matches!(tokens, [Word | Object | Function | Catalogue, ..])
}

fn skip<'t>(tokens: &'t [Token], skipped: &[Token]) -> &'t [Token] {
    let count = tokens.iter().take_while(|token| skipped.contains(token)).count();
    tokens.get(count..).unwrap_or_default()
}

/// The inside of a quoted value, of a few words.
fn skip_value(tokens: &[Token]) -> &[Token] {
    const LONGEST: usize = 4;
    let is_inside = |token: &&Token| !matches!(token, Quote | End);
    let count = tokens.iter().take(LONGEST).take_while(is_inside).count();
    tokens.get(count..).unwrap_or_default()
}
