//! The commands as `--help` lists them, with the examples that each gives.

use crate::cli::run_plain;

/// What a command says of itself.
#[derive(Debug)]
pub struct CommandHelp {
    /// `["users", "link"]`; empty for billsync itself.
    pub path: Vec<String>,
    /// The lines below "Example:" or "Examples:".
    pub examples: Vec<String>,
    pub text: String,
}

impl CommandHelp {
    /// `billsync users link`.
    pub fn name(&self) -> String {
        [&["billsync".to_owned()], self.path.as_slice()].concat().join(" ")
    }
}

/// Every command and subcommand, found from one `--help` to the next.
pub fn commands() -> Vec<CommandHelp> {
    let mut found = Vec::new();
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let (code, text, complaints) = run_plain(&arguments);
        assert_eq!((code, complaints.as_str()), (0, ""), "{arguments:?}");
        for subcommand in section(&text, &["Commands:"]).iter().filter_map(|line| line.split_whitespace().next()) {
            if subcommand != "help" {
                waiting.push([path.as_slice(), &[subcommand.to_owned()]].concat());
            }
        }
        let examples = section(&text, &["Example:", "Examples:"]).into_iter().map(|line| line.trim().to_owned()).collect();
        found.push(CommandHelp { path, examples, text });
    }
    found
}

/// The indented lines below one of these headings, up to an empty line. What is indented further continues a description.
fn section<'a>(text: &'a str, headings: &[&str]) -> Vec<&'a str> {
    let below = text.lines().skip_while(|line| !headings.contains(line)).skip(1);
    below.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   ")).collect()
}
