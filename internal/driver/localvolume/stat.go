package localvolume

import "syscall"

// unixStat is what os.FileInfo carries.
type unixStat = syscall.Stat_t
