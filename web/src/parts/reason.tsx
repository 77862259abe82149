import { Textarea } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { FormDialog, type Doing } from './dialog';

/** What an administrator does to others has a reason, which is kept. */
export function Reasoned({ title, close, submit, doing, label, danger, ready = true, children }: { title: string; close: () => void; submit: (reason: string) => void; doing: Doing; label: string; danger?: boolean; ready?: boolean; children?: ReactNode }) {
  const { t } = useTranslation();
  const [reason, setReason] = useState('');
  return (
    <FormDialog opened close={close} title={title} submit={() => submit(reason.trim())} doing={doing} label={label} danger={danger} ready={ready && reason.trim() !== ''}>
      {children}
      <Textarea label={t('admin.reason')} description={t('admin.reasonText')} maxLength={500} autosize value={reason} onChange={(e) => setReason(e.currentTarget.value)} data-autofocus={children ? undefined : true} />
    </FormDialog>
  );
}
