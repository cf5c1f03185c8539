//! Asks on a terminal for what a plan needs.

use std::io::{self, BufRead, Write};

/// An option, what is asked, and an example of an answer.
const QUESTIONS: [(&str, &str, &str); 9] = [
    ("vendor", "How many calls does the vendor allow, in which time", "10/s"),
    ("jitter", "By how much does the network's delay vary", "50ms"),
    ("arrivals", "How many calls arrive, on average", "8/s"),
    ("backlog", "How many calls wait already", "1000"),
    ("latency", "How long does a call take", "300ms"),
    ("latency-p999", "How long does 1 call in 1000 take", "2s"),
    ("failures", "Which share of the calls fails", "1%"),
    ("batch", "How many messages does the program take at a time", "10"),
    ("mode", "Are the calls of a batch made in parallel or sequential", "parallel"),
];

/// The answers as words of a command line. An empty answer leaves the option out.
pub(super) fn ask(answers: &mut impl BufRead, screen: &mut impl Write) -> io::Result<Vec<String>> {
    writeln!(
        screen,
        "An empty answer leaves a question open. `tidegate plan --help` lists all options."
    )?;
    let mut words = Vec::new();
    for (option, question, example) in QUESTIONS {
        write!(screen, "{question} ({example})? ")?;
        screen.flush()?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        if !line.trim().is_empty() {
            words.push(format!("--{option}={}", line.trim()));
        }
    }
    writeln!(screen)?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::{QUESTIONS, ask};

    #[test]
    fn answers_become_options_and_empty_ones_do_not() {
        let mut screen = Vec::new();
        let words = ask(&mut "10/s\n\n8/s\n".as_bytes(), &mut screen).unwrap_or_default();
        assert_eq!(words, ["--vendor=10/s", "--arrivals=8/s"]);
        assert_eq!(screen.iter().filter(|byte| **byte == b'?').count(), QUESTIONS.len());
    }
}
