# Completion of whisperengine for bash. It asks the command itself (--help, list), so that it never falls behind it.

_whisperengine()
{
    local program=${COMP_WORDS[0]} command=${COMP_WORDS[1]-}
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
    COMPREPLY=()

    if [ "$COMP_CWORD" -eq 1 ]; then
        words="--help --version $("$program" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p')"
    elif [[ $before == --model || $before == -m ]] || [[ $command =~ ^(info|verify|rm)$ && $word != -* ]]; then
        words="default $("$program" list 2>/dev/null | awk 'NR > 1 { print $1 }')"
    elif [[ $before == --kernels ]]; then
        words="reference avx2 avxvnni avx512 avx512bf16 neon neoni8mm"
    elif [[ $before == --device ]]; then
        words="auto mlx cpu"
    elif [[ $before == --kv-bits ]]; then
        words="16 8 4"
    elif [[ $word == -* ]]; then
        words=$("$program" "$command" --help 2>/dev/null | grep -oE '^  (-., |    )--[a-z][a-z-]*' | grep -oE -- '--.*')
    fi
    [ "$words" ] && COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _whisperengine whisperengine
