package store

import (
	"syscall"
	"time"
)

// giveUpAfter ends a connection to which nothing could be sent for so long
// (TCP_USER_TIMEOUT, tcp(7)), where the system would go on for a quarter of an hour.
func giveUpAfter(d time.Duration) func(network, address string, c syscall.RawConn) error {
	const userTimeout = 0x12
	return func(network, _ string, c syscall.RawConn) (err error) {
		if network == "unix" {
			return nil
		}
		if cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(d.Milliseconds()))
		}); cerr != nil {
			return cerr
		}
		return err
	}
}
