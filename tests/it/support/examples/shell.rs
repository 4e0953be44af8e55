//! Typing an example: in a shell, at a terminal, and comparing what comes of it with what the text says.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::collected::Example;
use super::stage::Stage;

/// What no example takes, on whatever machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// Runs an example; else what is wrong with it.
pub async fn try_out(stage: &Stage, example: &Example) -> Result<(), String> {
    if example.line.starts_with("select ") {
        // A statement that fails fails the test by itself.
        stage.database(example).execute(&example.line).await;
        return Ok(());
    }
    let line = stage.filled(example);
    if let Some(program) = stage.missing_program(&line) {
        let _ = writeln!(std::io::stderr(), "{}: not tried, this machine has no {program}: {line}", example.origin);
        return Ok(());
    }
    let (mut command, folder) = (shell(stage, example, &line), stage.folder.path().to_owned());
    let (answer, serves) = (stage.answer().to_owned(), serves(&line));
    let (code, printed, complaints) = tokio::task::spawn_blocking(move || {
        let (terminal, screen) = terminal();
        command.stdin(screen);
        (&terminal).write_all(format!("{answer}\n").as_bytes()).unwrap();
        let out = File::create(folder.join(".stdout")).unwrap();
        let err = File::create(folder.join(".stderr")).unwrap();
        let mut child = command.stdout(out).stderr(err).spawn().unwrap();
        let read = |name: &str| String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap()).into_owned();
        if serves {
            let ready = || format!("{}{}", read(".stdout"), read(".stderr")).to_lowercase().contains("g on http://");
            if wait(|| ready() || child.try_wait().unwrap().is_some()) {
                let _has_ended = kill_process(Pid::from_child(&child), Signal::TERM);
            }
        }
        (end(&mut child), read(".stdout"), read(".stderr"))
    })
    .await
    .unwrap();
    let Example { origin, line, exit, output } = example;
    let told = format!("{origin}: {line}\n{printed}{complaints}");
    match (code, output) {
        (Some(code), _) if code != *exit && !is_verdict_on_speed(code, line) => {
            Err(format!("ends with {code} in place of {exit}: {told}"))
        }
        (None, _) => Err(format!("does not end, or by a signal: {told}")),
        (_, Some(output)) if !shows(&printed, output) => Err(format!("prints something else than it says: {told}")),
        _ => Ok(()),
    }
}

/// What `bench` finds too slow depends on the machine that the tests run on.
fn is_verdict_on_speed(code: i32, line: &str) -> bool {
    code == 3 && line.contains("billsync bench ")
}

fn shell(stage: &Stage, example: &Example, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.env_clear().envs(stage.environment(example)).current_dir(stage.folder.path());
    // A signal for what serves has to reach it, not the shell around it.
    let line = if serves(line) { with_exec(line) } else { line.to_owned() };
    command.args(["-c", &line]).process_group(0);
    command
}

/// Whether the line starts something that goes on until it is told to end.
fn serves(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "#").collect();
    let is_ours = words.iter().any(|word| *word == "billsync" || *word == "cargo");
    is_ours
        && words.iter().any(|word| *word == "serve" || *word == "demo")
        && !words.contains(&"--exit")
        && !words.contains(&"--json")
}

fn with_exec(line: &str) -> String {
    let program = line.split(' ').position(|word| !word.contains('=')).unwrap_or_default();
    let mut words: Vec<&str> = line.split(' ').collect();
    words.insert(program, "exec");
    words.join(" ")
}

/// Both ends of a terminal: some commands ask a question, and only there.
fn terminal() -> (File, Stdio) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let screen = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (File::from(controller), Stdio::from(screen))
}

fn wait(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// The exit code; `None` when it had to be killed, or was.
fn end(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if status.is_none() {
        let _has_ended = kill_process_group(Pid::from_child(child), Signal::KILL);
        child.wait().unwrap();
    }
    status.and_then(|status| status.code())
}

/// Whether the lines of the text are among those printed, in their order; numbers and blanks apart.
fn shows(printed: &str, text: &str) -> bool {
    let printed = printed.lines().map(shape).collect::<Vec<String>>();
    let mut rest = printed.iter();
    text.lines().map(shape).filter(|line| !line.is_empty()).all(|line| rest.any(|printed| *printed == line))
}

fn shape(line: &str) -> String {
    let numbers_apart: String = line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let mut shape = numbers_apart.split_whitespace().collect::<Vec<&str>>().join(" ");
    while shape.contains("00") {
        shape = shape.replace("00", "0");
    }
    shape.replace("errors", "error").replace("warnings", "warning")
}
