// Dialogs: a form in one, and the one that asks before what cannot be undone.
import { Button, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Refusal } from './states';

export interface Doing {
  isPending: boolean;
  isError: boolean;
  error: unknown;
}

/** A dialog that is a form; Enter in it submits, Escape closes it. */
export function FormDialog({ opened, close, title, submit, doing, label, size, danger, ready = true, children }: { opened: boolean; close: () => void; title: string; submit: () => void; doing: Doing; label: string; size?: string; danger?: boolean; ready?: boolean; children: ReactNode }) {
  const { t } = useTranslation();
  return (
    <Modal opened={opened} onClose={close} title={title} size={size} closeButtonProps={{ 'aria-label': t('action.close') }}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          if (ready) submit();
        }}
      >
        <Stack>
          {children}
          {doing.isError && <Refusal error={doing.error} />}
          <Button type="submit" color={danger ? 'red' : undefined} loading={doing.isPending} disabled={!ready}>
            {label}
          </Button>
        </Stack>
      </form>
    </Modal>
  );
}

/** Asks for the name of what will be gone to be typed. */
export function Destroy({ opened, close, title, name, submit, doing, label, children }: { opened: boolean; close: () => void; title: string; name: string; submit: () => void; doing: Doing; label: string; children: ReactNode }) {
  const { t } = useTranslation();
  const [typed, setTyped] = useState('');
  return (
    <FormDialog opened={opened} close={close} title={title} submit={submit} doing={doing} label={label} danger ready={typed === name}>
      {children}
      <Text size="sm">{t('destroy.type', { name })}</Text>
      <TextInput label={t('destroy.label')} value={typed} onChange={(e) => setTyped(e.currentTarget.value)} autoComplete="off" data-autofocus />
    </FormDialog>
  );
}
