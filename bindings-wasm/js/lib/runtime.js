/** What the engine's host demands of this package; the entry point of the host sets it. */

export const runtime = {
  /**
   * Whether no request may wait for what another one has to do, as in edge runtimes: there, a timer or an answer
   * of the network belongs to the request that has asked for it, and is gone with that request.
   */
  isolatesRequests: false,
  /** Gives the engine's module at its first use; undefined if the entry point starts it. */
  loadModule: undefined,
};
