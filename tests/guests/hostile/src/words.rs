//! Answers, refusals and log lines that are wrong or too much.

use sluice_sdk::{Answer, Error, HttpAnswer, log};

/// `None` if it is nothing to say.
pub(crate) fn say(what: &str, amount: u32) -> Option<Result<Answer, Error>> {
    let status = u16::try_from(amount).unwrap_or(u16::MAX);
    let size = amount as usize;
    Some(match what {
        "refuse" => Err(Error::status(status, "refused on demand")),
        "long-refusal" => Err(Error::bad_request("é".repeat(size))),
        "strange-refusal" => Err(Error::bad_request("line\r\nx-injected: 1\u{0}\u{1b}[31m")),
        "answer-status" => Ok(Answer::text("with a status").with_status(status)),
        "huge-answer" => Ok(Answer::bytes("application/octet-stream", vec![0; size])),
        "strange-header" => Ok(Answer::Body(HttpAnswer {
            status: 200,
            content_type: "text/plain\r\nx-injected: 1".to_owned(),
            data: Vec::new(),
        })),
        "log-flood" => {
            for line in 0..amount {
                log::info!("line {line}");
            }
            Ok(Answer::text("logged"))
        }
        "long-log" => {
            log::info!("{}", "é".repeat(size));
            Ok(Answer::text("logged"))
        }
        "strange-log" => {
            log::info!("first\nsecond \u{1b}[31m red \r\n{{\"level\":\"ERROR\"}}");
            Ok(Answer::text("logged"))
        }
        _ => return None,
    })
}
