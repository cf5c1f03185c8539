/** Waits that are never too short, and may be longer than a timer can be set for. */

// The longest time of a timer in browsers and Node. A timer that is set for longer fires at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Waits until `performance.now()` has reached `deadline`. A timer may fire a little early, and is
 * then set again for the rest. Rejects with the signal's reason when the signal aborts.
 */
export function sleepUntil(deadline, signal) {
  return new Promise((resolve, reject) => {
    let timer;
    const look = () => {
      const rest = deadline - performance.now();
      if (rest > 0) {
        timer = setTimeout(look, Math.min(Math.ceil(rest), LONGEST_TIMER_MS));
        return;
      }
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
    look();
  });
}
