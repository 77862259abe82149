//go:build !linux

package main

import "syscall"

// leashed has no such signal here: a test binary that is killed leaves its children.
func leashed() *syscall.SysProcAttr { return nil }
