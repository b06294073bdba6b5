//! The options of a drawing on the command line: one flag for each row of [`OPTIONS`].

use clap::{
    Arg, ArgMatches, Args, Command, FromArgMatches,
    error::{Error, ErrorKind},
    value_parser,
};
use ondine_image::request::{Kind, OPTIONS, Request, Setting, parse_seed};

/// What the flags ask for; the prompt is still to come.
pub(super) struct Flags {
    request: Request,
    /// The names of the flags that were given.
    given: Vec<&'static str>,
}

impl Flags {
    /// The request for pictures of `prompt`.
    pub(super) fn request(&self, prompt: &str) -> Request {
        Request { prompt: prompt.to_owned(), ..self.request.clone() }
    }

    /// True if the flag of this name was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains(&name)
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self { request: Request::new(""), given: Vec::new() };
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let request = &mut self.request;
        for Setting { name, kind, .. } in OPTIONS {
            if matches.contains_id(name) {
                self.given.push(name);
            }
            match kind {
                Kind::Text { set, .. } => _ = matches.get_one(name).cloned().map(|text| set(request, text)),
                Kind::Seed { set, .. } => _ = matches.get_one(name).map(|&seed| set(request, seed)),
                Kind::Whole { set, .. } => _ = matches.get_one(name).map(|&number| set(request, number)),
                Kind::Number { set, .. } => _ = matches.get_one(name).map(|&number| set(request, number)),
                Kind::Choice { set, .. } => {
                    let chosen = matches.get_one::<String>(name).map_or(Ok(()), |chosen| set(request, chosen));
                    chosen.map_err(|error| Error::raw(ErrorKind::InvalidValue, format!("--{name}: {error}\n")))?;
                }
            }
        }
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let help = format!("{} [default: {}]", setting.help, setting.default());
    let flag = Arg::new(setting.name).long(setting.name).value_name(setting.value).help(help);
    let flag = flag.visible_aliases(setting.aliases).short(setting.short);
    match &setting.kind {
        Kind::Text { .. } | Kind::Choice { .. } => flag.value_parser(value_parser!(String)),
        Kind::Seed { .. } => flag.value_parser(parse_seed).allow_negative_numbers(true),
        Kind::Whole { .. } => flag.value_parser(value_parser!(u64)),
        Kind::Number { .. } => flag.value_parser(value_parser!(f64)).allow_negative_numbers(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request, Error> {
        let command = Flags::augment_args(Command::new("draw").no_binary_name(true));
        Flags::from_arg_matches(&command.try_get_matches_from(words)?).map(|flags| flags.request("a cat"))
    }

    #[test]
    fn every_option_reaches_the_request() {
        let words = [
            "-n",
            "dog",
            "-s",
            "7",
            "--cfg-scale",
            "-2.5",
            "--guidance-rescale",
            "0.7",
            "--guidance-start",
            "0.125",
            "--guidance-end",
            "0.75",
            "--speedup",
            "spectrum",
            "--seed",
            "9",
            "-W",
            "64",
            "-H",
            "32",
            "--batch",
            "3",
            "--scheduler",
            "Euler a",
            "--schedule",
            "karras",
            "--gamma",
            "0.5",
            "--preset",
            "tcd",
            "--timesteps",
            "999,749",
            "--strength",
            "0.25",
            "--image-guidance",
            "1.75",
            "--variation-seed",
            "11",
            "--variation-strength",
            "0.125",
            "--like",
            "comfyui",
            "--emphasis",
            "no-norm",
            "--clip-skip",
            "2",
            "--prediction",
            "v",
            "--zero-snr",
            "on",
            "--rng",
            "nv",
        ];
        let request = parse(&words).unwrap();
        let get = |setting: &Setting| match &setting.kind {
            Kind::Text { get, .. } => get(&request).unwrap().to_owned(),
            Kind::Seed { get, .. } => get(&request).to_string(),
            Kind::Whole { get, .. } => get(&request).unwrap().to_string(),
            Kind::Number { get, .. } => format!("{:.3}", get(&request).unwrap()),
            Kind::Choice { get, .. } => get(&request).unwrap(),
        };
        let found: Vec<_> = OPTIONS.iter().map(get).collect();
        let given = ["dog", "7", "-2.500", "0.700", "0.125", "0.750", "spectrum", "9", "64", "32", "3"];
        let given = [&given[..], &["Euler a", "karras", "0.500", "tcd", "999,749"]].concat();
        let given =
            [&given[..], &["0.250", "1.750", "11", "0.125", "comfy", "no-norm", "2", "v_prediction", "on", "philox"]]
                .concat();
        assert_eq!(found, given);
        assert_eq!(request.prompt, "a cat");
        assert_eq!(request.check().unwrap_err().to_string(), "guidance is -2.5; give a number from 0 to 1000");
    }

    #[test]
    fn what_is_not_given_stays_as_the_library_has_it() {
        let (found, usual) = (parse(&[]).unwrap(), Request::new("a cat"));
        assert_eq!(format!("{found:?}"), format!("{usual:?}"));
    }

    #[test]
    fn unknown_generators_are_bad_usage() {
        let error = parse(&["--rng", "dice"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--rng: noise generator \"dice\" is not known"), "{error}");
    }
}
