use crate::error::Error;

#[cold]
pub(crate) fn lost() -> Error {
    Error::Store("the answer was lost".into())
}
