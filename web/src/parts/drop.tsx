import { Button, FileButton, Group, Paper, Progress, Stack, Text } from '@mantine/core';
import { IconUpload } from '@tabler/icons-react';
import { useEffect, useRef, useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Refusal } from './states';
import type { Doing } from './dialog';

/** Takes a list's file, dropped or chosen; share is how much of it is up. */
export function DropFile({ text, take, doing, share, children }: { text: string; take: (file: File) => void; doing: Doing; share: number; children?: ReactNode }) {
  const { t } = useTranslation();
  const [over, setOver] = useState(false);
  const reset = useRef<() => void>(null);
  useEffect(() => {
    if (!doing.isPending) reset.current?.(); // the same file may be chosen again
  }, [doing.isPending]);
  const given = (file: File | null | undefined) => file && take(file);
  return (
    <Paper
      withBorder
      p="lg"
      style={over ? { borderColor: 'var(--mantine-primary-color-filled)' } : undefined}
      onDragOver={(e) => {
        e.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(e) => {
        e.preventDefault();
        setOver(false);
        given(e.dataTransfer.files[0]);
      }}
    >
      <Stack gap="sm" align="flex-start">
        <Text>{text}</Text>
        <Group>
          <FileButton onChange={given} resetRef={reset} accept=".csv,.tsv,.xlsx,.json,.jsonl,.ndjson">
            {(props) => (
              <Button {...props} leftSection={<IconUpload size={16} />} loading={doing.isPending}>
                {t('upload.choose')}
              </Button>
            )}
          </FileButton>
          {children}
        </Group>
        {doing.isPending && <Progress w="100%" value={share * 100} aria-label={t('upload.progress')} />}
        {doing.isError && <Refusal error={doing.error} />}
      </Stack>
    </Paper>
  );
}
