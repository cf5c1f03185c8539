-- A lease has one more key, the last: the hash of the nodes that hold slices.

local leases = table.remove(KEYS)

