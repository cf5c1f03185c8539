//! The codec of gRPC messages that have types of our own.

use core::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Reads messages of the type `In`, and writes those of the type `Out`.
pub(crate) struct MessagesCodec<In, Out>(PhantomData<fn() -> (In, Out)>);

impl<In, Out> MessagesCodec<In, Out> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<In: Message + Default + 'static, Out: Message + 'static> Codec for MessagesCodec<In, Out> {
    type Encode = Out;
    type Decode = In;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new()
    }

    fn decoder(&mut self) -> Self {
        Self::new()
    }
}

impl<In, Out: Message> Encoder for MessagesCodec<In, Out> {
    type Item = Out;
    type Error = Status;

    fn encode(&mut self, item: Out, room: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(room).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<In: Message + Default, Out> Decoder for MessagesCodec<In, Out> {
    type Item = In;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<In>, Status> {
        let read = In::decode(bytes).map(Some);
        read.map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
