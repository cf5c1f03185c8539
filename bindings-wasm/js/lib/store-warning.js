/** Tells the program that a store fails, or has recovered. */

/** The code of these warnings, by which a program finds them. */
const CODE = 'TIDEGATE_STORE';

/**
 * Emits a warning of the process: once for each change of a store, never for each call. Node prints it
 * to standard error, and `process.on('warning')` gets it. Runtimes without that have `storeHealth`.
 * The warning comes after the present turn of the event loop, so its listeners may call limiters.
 */
export function storeChanged(message) {
  globalThis.process?.emitWarning?.(message, { type: 'TidegateWarning', code: CODE });
}
