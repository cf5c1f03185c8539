-- A lease has one key more than the buckets, the last: who holds slices of them.

local leases = table.remove(KEYS)

