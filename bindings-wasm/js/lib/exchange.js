/** Sends the commands of a batch over a client, and hands the replies to the batch. */

import { commandsOf, isTimeout, messageOf, partsOf, refusalOf } from './clients.js';
import { view } from './engine.js';
import { StoreTimeout } from './errors.js';

/**
 * Sends the commands of a batch with `send` and hands over the replies, until the batch has no more commands; then
 * calls `done`. After each reply it calls `settle`, with the error if the reply is one, and `waits` if the batch
 * waits for more. It stops, and calls nothing any more, once `isGone` answers yes.
 *
 * It is not async, because more promises would take longer than everything else that it does.
 */
export function exchange(batch, host) {
  const { send, settle, waits, isGone, done } = host;
  let left = 0;
  const breakOff = (error) => {
    left = 0;
    batch.end(`${error.name}: ${messageOf(error)}`);
    settle(error);
    done();
  };
  const receive = (command, value, reason) => {
    if (left === 0 || isGone?.()) return;
    try {
      settle(take(batch, command, value, reason));
      left -= 1;
      if (left === 0) exchange(batch, host);
      else waits?.();
    } catch (error) {
      breakOff(error);
    }
  };
  try {
    left = batch.commands();
    if (left === 0) {
      done();
      return;
    }
    const words = view(Uint8Array, batch.words_pointer(), batch.words_length());
    const lengths = view(Uint32Array, batch.lengths_pointer(), batch.lengths_length());
    commandsOf(words, lengths, left).forEach((own, command) => {
      promiseOf(send, own).then((value) => receive(command, value), (reason) => receive(command, undefined, reason));
    });
  } catch (error) {
    breakOff(error);
  }
}

/** The error, with its cause if it is an error of the store. */
export function because(error, cause) {
  if (cause !== undefined && (error.code === 'store_error' || error instanceof StoreTimeout)) {
    Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true });
  }
  return error;
}

function promiseOf(send, words) {
  try {
    return Promise.resolve(send(words));
  } catch (error) {
    return Promise.reject(error);
  }
}

// Hands a reply to the batch. Returns the error if the reply is one or cannot be read.
function take(batch, command, value, reason) {
  if (reason === undefined && Array.isArray(value)) {
    const { bytes, lengths } = partsOf(value);
    batch.take(command, bytes, lengths);
    return undefined;
  }
  const cause = reason ?? new TypeError('a reply has another form');
  const refusal = refusalOf(cause);
  if (refusal === undefined) batch.fail(command, `${cause.name}: ${messageOf(cause)}`, isTimeout(cause));
  else batch.refuse(command, refusal);
  return cause;
}
