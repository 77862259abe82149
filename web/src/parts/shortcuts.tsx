// Single keys, and the sheet that tells them. They are ours alone: not while one
// types, not while an input method composes, and not at all for who turned them
// off (WCAG 2.1.4).
import { Kbd, Modal, Switch, Table } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';

const off = () => localStorage.getItem('shortcuts') === 'off';

/**
 * Runs what stands under a key ("?"), under one after g ("g m"), or under one
 * with Ctrl or ⌘ ("mod z"). A key after g is no key of its own.
 */
export function useShortcuts(keys: Record<string, () => void>) {
  const now = useRef(keys);
  useEffect(() => {
    now.current = keys;
  });
  useEffect(() => {
    let before = '';
    let at = 0;
    const pressed = (e: KeyboardEvent) => {
      const mod = e.ctrlKey || e.metaKey;
      // 229 is a key that an input method took, also just after it composed.
      if (e.isComposing || e.keyCode === 229 || e.altKey || e.defaultPrevented || (!mod && off())) return;
      const on = e.target as HTMLElement;
      if (on.closest('input, textarea, select, [contenteditable], [role=dialog], [role=menu], [role=listbox], [role=slider]')) return;
      const after = !mod && before === 'g' && e.timeStamp - at < 1500;
      const run = now.current[(mod ? 'mod ' : after ? 'g ' : '') + e.key];
      [before, at] = [after || mod ? '' : e.key, e.timeStamp];
      if (!run) return;
      e.preventDefault();
      run();
    };
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, []);
}

export function ShortcutSheet({ opened, close, pages }: { opened: boolean; close: () => void; pages: { keys: string; does: string }[] }) {
  const { t } = useTranslation();
  const [on, setOn] = useState(!off());
  const rows = [
    { keys: 'Ctrl K', does: t('shortcuts.palette') },
    { keys: '?', does: t('shortcuts.sheet') },
    { keys: 'y n h', does: t('shortcuts.decide') },
    { keys: 'j k', does: t('shortcuts.pairs') },
    { keys: 'u', does: t('shortcuts.undo') },
    { keys: '/', does: t('shortcuts.name') },
    ...pages,
  ];
  return (
    <Modal opened={opened} onClose={close} title={t('shortcuts.title')} closeButtonProps={{ 'aria-label': t('action.close') }}>
      <Switch
        label={t('shortcuts.on')}
        checked={on}
        onChange={(e) => {
          setOn(e.currentTarget.checked);
          if (e.currentTarget.checked) localStorage.removeItem('shortcuts');
          else localStorage.setItem('shortcuts', 'off');
        }}
      />
      <Table mt="md" verticalSpacing={4}>
        <Table.Tbody>
          {rows.map((r) => (
            <Table.Tr key={r.keys}>
              <Table.Td w={110}>
                {r.keys.split(' ').map((k) => (
                  <Kbd key={k} mr={4}>
                    {k}
                  </Kbd>
                ))}
              </Table.Td>
              <Table.Td>{r.does}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}
