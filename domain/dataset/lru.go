package dataset

import (
	"container/list"
	"sync"
)

// lru keeps what was used last, up to a total size in bytes.
type lru[V any] struct {
	mu    sync.Mutex
	most  int64
	size  int64
	order *list.List // of *kept[V], the newest first
	byKey map[string]*list.Element
}

type kept[V any] struct {
	key, tenant string
	value       V
	size        int64
}

func newLRU[V any](most int64) *lru[V] {
	return &lru[V]{most: most, order: list.New(), byKey: map[string]*list.Element{}}
}

func (c *lru[V]) get(key string) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept[V]).value, true
}

// put keeps a value, unless it is larger than everything together may be.
func (c *lru[V]) put(tenant, key string, value V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.drop(e)
	}
	if size > c.most {
		return
	}
	c.byKey[key] = c.order.PushFront(&kept[V]{key, tenant, value, size})
	for c.size += size; c.size > c.most; {
		c.drop(c.order.Back())
	}
}

func (c *lru[V]) drop(e *list.Element) {
	k := e.Value.(*kept[V])
	c.order.Remove(e)
	delete(c.byKey, k.key)
	c.size -= k.size
}

// forget drops what belongs to a tenant.
func (c *lru[V]) forget(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*kept[V]).tenant == tenant {
			c.drop(e)
		}
		e = next
	}
}

// of gives what belongs to a tenant, the newest first, and its size.
func (c *lru[V]) of(tenant string) (values []V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; e = e.Next() {
		if k := e.Value.(*kept[V]); k.tenant == tenant {
			values = append(values, k.value)
			size += k.size
		}
	}
	return values, size
}
