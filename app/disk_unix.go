//go:build unix

package main

import "syscall"

// diskFree is the share of a folder's file system that may still be written.
func diskFree(dir string) (float64, bool) {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil || s.Blocks == 0 {
		return 0, false
	}
	return float64(s.Bavail) / float64(s.Blocks), true
}
