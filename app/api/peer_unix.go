//go:build unix

package api

import (
	"net"
	"syscall"
	"time"
)

// watchSocket waits in the runtime's poller until the socket is readable and
// looks without taking: no bytes is the end of the connection. Fiber and
// fasthttp tell nobody that a client has gone (reference: gofiber/fiber#4145).
func watchSocket(conn net.Conn, gone func()) (stop func()) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return unwatched
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return unwatched
	}
	_ = conn.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		left := false
		err := raw.Read(func(fd uintptr) bool {
			var b [1]byte
			n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err == syscall.EAGAIN || err == syscall.EINTR {
				return false
			}
			left = err != nil || n == 0 // more bytes are a pipelined request: the connection lives
			return true
		})
		if left && err == nil {
			gone()
		}
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the watcher; a stream's connection is not used again
		<-done
	}
}
