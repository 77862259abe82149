package main

import "syscall"

// leashed makes a child die with the test binary, however that ends: one that
// stays would hold the output of `go test` open after a timeout. The kernel
// watches the thread that started the child, and nothing in this package lets
// the runtime end a thread.
func leashed() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
