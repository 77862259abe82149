// A secret, shown this once.
import { Alert, Button, Code, CopyButton, Group, Modal, Stack } from '@mantine/core';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

/** Closes by its button alone, so that a stray click loses nothing. */
export function OnceDialog({ value, title, close, children }: { value: string | null; title: string; close: () => void; children?: ReactNode }) {
  const { t } = useTranslation();
  return (
    <Modal opened={value !== null} onClose={close} title={title} size="lg" closeOnClickOutside={false} closeOnEscape={false} withCloseButton={false}>
      {value !== null && (
        <Stack>
          <Alert color="orange" title={t('once.text')} />
          <Code block style={{ whiteSpace: 'pre-wrap' }}>
            {value}
          </Code>
          <Group>
            <CopyButton value={value}>{({ copied, copy }) => <Button onClick={copy}>{t(copied ? 'action.copied' : 'action.copy')}</Button>}</CopyButton>
            <Button variant="default" onClick={close}>
              {t('once.saved')}
            </Button>
          </Group>
          {children}
        </Stack>
      )}
    </Modal>
  );
}
