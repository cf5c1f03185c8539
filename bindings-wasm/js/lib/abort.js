/** Listens for the abort of signals, once for each signal. */

// The listener of each signal, and the functions that it calls. A runtime warns of a leak when a
// signal has more than ten listeners.
const listeners = new WeakMap();

/** Calls `run` when the signal aborts, unless `offAbort` comes first. */
export function onAbort(signal, run) {
  const known = listeners.get(signal);
  if (known !== undefined) {
    known.runs.add(run);
    return;
  }
  const runs = new Set([run]);
  const listener = () => {
    listeners.delete(signal);
    for (const each of runs) each();
  };
  listeners.set(signal, { runs, listener });
  signal.addEventListener('abort', listener, { once: true });
}

/** Forgets what `onAbort` was given. */
export function offAbort(signal, run) {
  const known = listeners.get(signal);
  if (known === undefined || !known.runs.delete(run) || known.runs.size > 0) return;
  listeners.delete(signal);
  signal.removeEventListener('abort', known.listener);
}
