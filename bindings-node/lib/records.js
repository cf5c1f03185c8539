/** The records in which the addon gives decisions: arrays of numbers, one record after the other. */

import { readDecision } from './memory/decision.js';

/** The least length of a record: its status, and four more numbers. */
export const RECORD = 5;
/** The least length of the record of a decision of this process, which leaves the burst out. */
export const LOCAL_RECORD = 4;
const OF_TIER = 4;

/** How many numbers follow in a record with this status: four for each limit, if there are several. */
export function tierNumbers(status) {
  return OF_TIER * (status >>> 6);
}

/** The decision of the record that begins at the index `at`. */
export function readRecord(records, at, limits) {
  const status = records[at];
  const tiersAt = tierNumbers(status) === 0 ? undefined : at + RECORD;
  return readDecision(status, records, at + 1, limits, tiersAt);
}
