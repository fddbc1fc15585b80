//! The arguments of `latrod train` that make up the settings of the learner: one for each entry of
//! the settings' table.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::cli::CliError;
use crate::cli::shared::choice::{choice, help};
use crate::cli::shared::common::usage;
use crate::latro::settings::{Preset, TrainSettings};
use crate::settings::{Choice, Field, Kind, Settings, paragraphs};

const HEADING: &str = "Settings of the learner (defaults: those of the preset)";

/// Settings of the learner; what is not given comes from the preset.
#[derive(Debug)]
pub struct SettingArgs {
    preset: Preset,
    /// Names of settings and their values.
    given: Vec<(&'static str, String)>,
}

impl SettingArgs {
    /// The preset with what was given, checked.
    ///
    /// # Errors
    /// All values that cannot be used, in one sentence each.
    pub fn resolve(&self) -> Result<TrainSettings, CliError> {
        let mut settings = self.preset.settings();
        for (name, text) in &self.given {
            let field = TrainSettings::FIELDS.iter().find(|field| field.name == *name);
            let set = field.map_or(Ok(()), |field| (field.set)(&mut settings, text));
            set.map_err(|sentence| usage(format!("{name}: {sentence}")))?;
        }
        settings.target_modules.sort_unstable();
        settings.target_modules.dedup();
        settings.validate().map_err(|wrong| usage(wrong.join("; ")))?;
        Ok(settings)
    }
}

impl clap::Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let preset = Arg::new("preset")
            .long("preset")
            .help("Where the other settings start from")
            .help_heading(HEADING)
            .value_parser(choice::<Preset>())
            .default_value(Preset::Edge.word());
        command.arg(preset).args(TrainSettings::FIELDS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let preset = matches.get_one("preset").copied().unwrap_or(Preset::Edge);
        let given = TrainSettings::FIELDS.iter().filter_map(|field| {
            matches.get_one::<String>(field.name).map(|text| (field.name, text.clone()))
        });
        Ok(Self { preset, given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The argument that gives a setting. Its value stays text until the preset is known.
fn argument(field: &'static Field<TrainSettings>) -> Arg {
    let name = field.name;
    let argument = Arg::new(name)
        .long(name.replace('_', "-"))
        .help_heading(HEADING)
        .help(format!("{}{}", help(field.doc), defaults(field)))
        .long_help(format!("{}{}", paragraphs(field.doc).join("\n\n"), defaults(field)));
    let argument = if name == "num_generations" { argument.short('k') } else { argument };
    match field.kind {
        Kind::Choice(words) => {
            let words = words
                .iter()
                .map(|(word, meaning)| PossibleValue::new(*word).help(help(&[meaning])));
            argument.value_parser(PossibleValuesParser::new(words))
        }
        Kind::Switch => argument.value_parser(["true", "false"]),
        kind => argument
            .value_name(value_name(kind))
            .value_parser(|text: &str| Ok::<_, std::convert::Infallible>(text.to_owned())),
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Whole => "N",
        Kind::Number => "X",
        Kind::List => "NAMES",
        Kind::Switch | Kind::Text | Kind::Path | Kind::Choice(_) => "VALUE",
    }
}

/// What the presets say.
fn defaults(field: &Field<TrainSettings>) -> String {
    let of = |preset: Preset| (field.value)(&preset.settings()).to_string();
    let (edge, paper) = (of(Preset::Edge), of(Preset::Paper));
    match field.kind {
        Kind::List => String::new(),
        _ if edge == paper => format!(" [default: {edge}]"),
        _ => format!(" [default: {edge}; paper: {paper}]"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    fn resolve(arguments: &[&str]) -> Result<TrainSettings, CliError> {
        let command = SettingArgs::augment_args(Command::new("t").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(usage)?;
        SettingArgs::from_arg_matches(&matches).map_err(usage)?.resolve()
    }

    #[test]
    fn every_setting_has_an_argument_that_sets_it() {
        let other = TrainSettings::paper();
        let json = serde_json::to_value(&other).unwrap();
        let arguments: Vec<String> = TrainSettings::FIELDS
            .iter()
            .flat_map(|field| {
                let value = &json[field.name];
                let text = match value {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Array(names) => {
                        let names = names.iter().filter_map(|name| name.as_str());
                        names.collect::<Vec<_>>().join(",")
                    }
                    value => value.to_string(),
                };
                [format!("--{}", field.name.replace('_', "-")), text]
            })
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

        assert_eq!(resolve(&arguments).unwrap(), other);
        assert_eq!(resolve(&["--preset", "paper"]).unwrap(), other);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_a_sentence_that_names_its_setting() {
        let said = |arguments: &[&str]| resolve(arguments).unwrap_err().to_string();

        assert_eq!(said(&["--rank", "many"]), "rank: use a whole number");
        assert!(said(&["-k", "1"]).starts_with("num_generations is 1"));
        assert!(said(&["--target-modules", "q_proj,qq"]).contains("unknown layer \"qq\""));
        assert!(said(&["--method", "magic"]).contains("latro"));
    }
}
