//! How commands reach the server.

use ::redis::aio::{ConnectionLike as _, ConnectionManager};
use ::redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

/// A connection, which is made when it is needed and again whenever it is gone.
#[derive(Clone)]
pub(crate) struct Link(ConnectionManager);

impl Link {
    pub(super) fn new(connection: ConnectionManager) -> Self {
        Self(connection)
    }

    /// Sends commands in one go, and gives an answer for each, in order.
    pub(crate) async fn send(&self, commands: Vec<Cmd>) -> Vec<RedisResult<Value>> {
        let mut connection = self.0.clone();
        let count = commands.len();
        let mut pipeline = Pipeline::with_capacity(count);
        for command in commands {
            pipeline.add_command(command);
        }
        let replies = match connection.req_packed_commands(&pipeline, 0, count).await {
            Ok(replies) if replies.len() == count => replies,
            Ok(_) => return lost(count),
            Err(error) => return (0..count).map(|_| Err(error.clone())).collect(),
        };
        replies.into_iter().map(Value::extract_error).collect()
    }
}

fn lost(count: usize) -> Vec<RedisResult<Value>> {
    let error =
        || RedisError::from((::redis::ErrorKind::UnexpectedReturnType, "answers are missing"));
    (0..count).map(|_| Err(error())).collect()
}
