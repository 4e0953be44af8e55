//! The examples of the README and of every `--help`, as they stand there. Adding one there is all it takes to have it run.

use std::path::Path;

use super::help::commands;

/// A line to type, and what the text says comes of it.
#[derive(Clone, Debug)]
pub struct Example {
    pub origin: String,
    pub line: String,
    /// 0, unless a comment behind the line says "ends with N".
    pub exit: i32,
    /// What the text shows as its output.
    pub output: Option<String>,
}

/// Examples that follow one another: of one block of code, one paragraph, or one `--help`.
#[derive(Debug)]
pub struct Block {
    pub examples: Vec<Example>,
}

/// What a line of prose may begin with to be an example. Of billsync, the mere name of a command is none.
const PROGRAMS: [&str; 11] =
    ["billsync", "cargo", "curl", "docker", "just", "pg_dump", "pg_restore", "psql", "select", "stripe", "systemctl"];

/// Of every command's `--help`.
pub fn of_help() -> Vec<Block> {
    let block = |command: super::help::CommandHelp| {
        let origin = format!("{} --help", command.name());
        Block { examples: command.examples.iter().map(|line| Example::new(&origin, line)).collect() }
    };
    commands().into_iter().map(block).collect()
}

/// Of the README: its blocks of `sh`, `console` and `sql`, and what stands as code within a sentence.
pub fn of_readme() -> Vec<Block> {
    let text = readme();
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut prose: Vec<(usize, &str)> = Vec::new();
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            blocks.extend(of_prose(&std::mem::take(&mut prose)));
            let code: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| !line.starts_with("```")).collect();
            blocks.extend(of_code(number, language, &code));
        } else if line.is_empty() {
            blocks.extend(of_prose(&std::mem::take(&mut prose)));
        } else {
            prose.push((number, line));
        }
    }
    blocks.extend(of_prose(&prose));
    blocks
}

/// Every piece of code that stands within a sentence or a table.
pub fn code_in_sentences() -> Vec<String> {
    let text = readme();
    let mut outside = String::new();
    for (index, part) in text.split("\n```").enumerate() {
        // Every second fence ends a block.
        if index % 2 == 0 {
            outside.push_str(part);
        }
    }
    outside.split('`').skip(1).step_by(2).map(|code| code.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

impl Example {
    fn new(origin: &str, line: &str) -> Example {
        let comment = line.split_once(" # ").map_or("", |(_, comment)| comment);
        let exit = comment.split_once("ends with ").and_then(|(_, rest)| rest.chars().next()?.to_digit(10)).unwrap_or(0);
        Example { origin: origin.to_owned(), line: line.trim().to_owned(), exit: exit.try_into().unwrap(), output: None }
    }
}

fn of_code(number: usize, language: &str, code: &[(usize, &str)]) -> Option<Block> {
    let examples = match language {
        "sh" => commands_of(code),
        "console" => console(code),
        "" if code.iter().any(|(_, line)| line.starts_with("$ ")) => console(code),
        "sql" => code.iter().map(|(number, line)| Example::new(&origin(*number), line)).collect(),
        // What other programs read.
        "nginx" | "toml" | "json" => return None,
        _ => panic!("README.md:{number}: say what the block is: ```sh, ```console with $ before what is typed, or ```sql"),
    };
    Some(Block { examples })
}

fn origin(number: usize) -> String {
    format!("README.md:{number}")
}

/// One example for each line, which goes on behind a backslash.
fn commands_of(code: &[(usize, &str)]) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (number, line) in code {
        let (start, mut text) = begun.take().unwrap_or((*number, String::new()));
        if let Some(part) = line.strip_suffix('\\') {
            text.push_str(part);
            begun = Some((start, text));
            continue;
        }
        text.push_str(line);
        if !text.trim().is_empty() && !text.trim().starts_with('#') {
            examples.push(Example::new(&origin(start), &text));
        }
    }
    examples
}

/// What is typed behind `$ `, and below it what is then printed.
fn console(code: &[(usize, &str)]) -> Vec<Example> {
    let starts: Vec<usize> = (0..code.len()).filter(|&index| code[index].1.starts_with("$ ")).collect();
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let mut examples = Vec::new();
    for (start, end) in starts.iter().copied().zip(ends) {
        let typed_lines = 1 + code[start..end].iter().take_while(|(_, line)| line.ends_with('\\')).count();
        let mut typed: Vec<(usize, &str)> = code[start..start + typed_lines].to_vec();
        typed[0].1 = typed[0].1.trim_start_matches("$ ");
        let output: Vec<&str> = code[start + typed_lines..end].iter().map(|(_, line)| *line).collect();
        let mut example = commands_of(&typed).remove(0);
        example.output = Some(output.join("\n"));
        examples.push(example);
    }
    examples
}

/// Those of a paragraph, a list's entry or a table.
fn of_prose(lines: &[(usize, &str)]) -> Option<Block> {
    let text = lines.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n");
    let mut examples = Vec::new();
    let mut passed = 0;
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 && is_example(part) {
            let number = lines[passed].0;
            examples.push(Example::new(&origin(number), &part.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        passed += part.matches('\n').count();
    }
    (!examples.is_empty()).then_some(Block { examples })
}

fn is_example(code: &str) -> bool {
    let mut words = code.split_whitespace().skip_while(|word| word.contains('=') && !word.starts_with('-'));
    let Some(program) = words.next() else { return false };
    let rest: Vec<&str> = words.collect();
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    PROGRAMS.contains(&program) && !rest.is_empty() && !(program == "billsync" && rest.iter().all(is_name))
}
