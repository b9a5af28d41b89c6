# Completion of whisperengine for fish. It asks the command itself (--help, list), so that it never falls behind it.

function __whisperengine_commands
    whisperengine --help 2>/dev/null | string replace -rf '^  ([a-z][a-z-]*)  +(.*)$' '$1\t$2'
end

function __whisperengine_options
    set -l words (commandline -opc)
    whisperengine $words[2] --help 2>/dev/null |
        string replace -rf '^  (?:-., |    )(--[a-z][a-z-]*)(?: \S+)?(?: +(.*))?$' '$1\t$2'
end

function __whisperengine_models
    echo default
    whisperengine list 2>/dev/null | tail -n +2 | string replace -r '\s.*' ''
end

function __whisperengine_after
    set -l words (commandline -opc)
    contains -- $words[-1] $argv
end

set -l first 'test (count (commandline -opc)) -eq 1'
set -l later 'test (count (commandline -opc)) -gt 1'

complete -c whisperengine -n $first -f -a '(__whisperengine_commands)'
complete -c whisperengine -n $first -f -l help -d 'List the commands'
complete -c whisperengine -n $first -f -l version -d 'Print the version'
complete -c whisperengine -n "$later; and string match -q -- '-*' (commandline -ct)" -f -a '(__whisperengine_options)'
complete -c whisperengine -n '__whisperengine_after --model -m info verify rm' -a '(__whisperengine_models)'
complete -c whisperengine -n '__whisperengine_after --kernels' -f -a 'reference avx2 avxvnni avx512 avx512bf16 neon neoni8mm'
complete -c whisperengine -n '__whisperengine_after --device' -f -a 'auto mlx cpu'
complete -c whisperengine -n '__whisperengine_after --kv-bits' -f -a '16 8 4'
