//! `sluice token new`: makes a token, shows it once, and shows what to put into the
//! configuration, which keeps only its hash.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::complain;
use crate::auth::token::NewToken;
use crate::config::Scope;

/// Makes tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token. Its first line is the token, shown this once; the rest goes into
    /// the configuration.
    New(NewArguments),
}

#[derive(Debug, Args)]
pub(super) struct NewArguments {
    /// The token's name: what logs and the audit trail show.
    #[arg(long)]
    name: String,
    /// What it allows; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = parse_scope)]
    scopes: Vec<Scope>,
    /// Whose plugins it may deploy. Needed with plugins:deploy.
    #[arg(long)]
    owner: Option<String>,
    /// When it stops working, as 2030-12-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires: Option<String>,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    let found = Scope::ALL.into_iter().find(|scope| scope.name() == text);
    found.ok_or_else(|| {
        let names = Scope::ALL.map(Scope::name).join(", ");
        format!("no such scope, there is {names}")
    })
}

fn parse_time(text: &str) -> Result<String, String> {
    let is_time = chrono::DateTime::parse_from_rfc3339(text).is_ok_and(|time| time.timestamp() >= 0);
    if is_time { Ok(text.to_owned()) } else { Err("not a time such as 2030-12-31T00:00:00Z".to_owned()) }
}

pub(super) fn token(command: &TokenCommand) -> ExitCode {
    let TokenCommand::New(arguments) = command;
    match new(arguments) {
        Ok(text) => show(&text),
        Err(problem) => {
            complain(&problem);
            ExitCode::FAILURE
        }
    }
}

/// The only place that ever shows a token.
#[expect(clippy::print_stdout, reason = "the token is for whoever asked for it")]
fn show(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

fn new(arguments: &NewArguments) -> Result<String, String> {
    let mut names = vec![("name", &arguments.name)];
    names.extend(arguments.owner.as_ref().map(|owner| ("owner", owner)));
    for (what, name) in names {
        sluice_tensor::check_name(name).map_err(|error| format!("--{what}: {error}"))?;
    }
    if arguments.scopes.contains(&Scope::PluginsDeploy) && arguments.owner.is_none() {
        return Err("--owner is needed: a token with plugins:deploy deploys the plugins of one owner".into());
    }
    let token = NewToken::generate().map_err(|_| "the system has no randomness".to_owned())?;
    Ok(format!(
        "{}\n\n# The line above is the token: keep it secret, it is not shown again.\n# What follows goes into the configuration.\n{}",
        token.reveal(),
        entry(arguments, &token.hash())
    ))
}

/// The table of the configuration. Names have been checked, so they need no escapes.
fn entry(arguments: &NewArguments, hash: &str) -> String {
    let scopes: Vec<String> = arguments.scopes.iter().map(|scope| format!("\"{}\"", scope.name())).collect();
    let mut text =
        format!("[tokens.\"{}\"]\nhash = \"{hash}\"\nscopes = [{}]\n", arguments.name, scopes.join(", "));
    for (key, value) in [("owner", &arguments.owner), ("expires", &arguments.expires)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = \"{value}\"");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(owner: Option<&str>) -> NewArguments {
        NewArguments {
            name: "ci.team-a".to_owned(),
            scopes: vec![Scope::PluginsDeploy, Scope::Predict],
            owner: owner.map(str::to_owned),
            expires: Some("2099-12-31T00:00:00Z".to_owned()),
        }
    }

    #[test]
    fn the_entry_holds_the_hash_and_not_the_token() {
        let text = new(&arguments(Some("team-a"))).expect("made");
        let (token, entry) = text.split_once('\n').expect("two parts");
        assert!(token.starts_with("sluice_"), "{token}");
        assert!(!entry.contains(token));
        for part in
            ["[tokens.\"ci.team-a\"]", "hash = \"sha256:", "scopes = [\"plugins:deploy\", \"predict\"]"]
        {
            assert!(entry.contains(part), "{entry}");
        }
        assert!(new(&arguments(None)).expect_err("no owner").contains("--owner"));
    }
}
